import { sendRaw, type TestGateway } from './gateways.ts';

/** A request that a proxy asks about. */
export type Question = { method?: string; path?: string; address?: string; host?: string; key?: string };

/** How each proxy asks: the request line's method and target, and the headers in which it says what it asks about. */
const FORMS = {
  forwarded: ({ method, host, path, address }: Required<Question>) => ({
    line: 'GET /verify',
    says: [
      ['X-Forwarded-Method', method],
      ['X-Forwarded-Host', host],
      ['X-Forwarded-Uri', path],
      ['X-Forwarded-For', address],
    ],
  }),
  nginx: ({ method, host, path, address }: Required<Question>) => ({
    line: 'GET /verify/nginx',
    says: [
      ['X-Original-Method', method],
      ['X-Original-URL', `https://${host}${path}`],
      ['X-Forwarded-For', address],
    ],
  }),
  envoy: ({ method, path, address }: Required<Question>) => ({
    line: `${method} /verify/envoy${path}`,
    says: [['X-Real-IP', address]],
  }),
};

export type Form = keyof typeof FORMS;
export const ALL_FORMS = Object.keys(FORMS) as Form[];

const QUESTION: Required<Question> = {
  method: 'GET',
  path: '/v1',
  address: '203.0.113.9',
  host: 'api.example.com',
  key: '',
};

/** What a proxy says in headers of the request that it asks about, as name and value. */
export function saidBy(form: Form): [string, string][] {
  return FORMS[form](QUESTION).says as [string, string][];
}

/**
 * Asks as a proxy does, on a connection of its own.
 *
 * @param more further lines
 * @param without a header that is left out
 */
export async function ask(
  gateway: Pick<TestGateway, 'internalPort'>,
  form: Form,
  question: Question = {},
  { more = [], without }: { more?: readonly string[]; without?: string } = {},
) {
  const whole = { ...QUESTION, ...question };
  const { line, says } = FORMS[form](whole);
  const lines = says.filter(([name]) => name !== without).map(([name, value]) => `${name}: ${value}`);
  if (whole.key !== '') lines.push(`X-API-Key: ${whole.key}`);
  const host = form === 'envoy' ? whole.host : 'tollgate';
  const request = [`${line} HTTP/1.1`, `Host: ${host}`, ...lines, ...more, 'Connection: close', '', ''];
  return parseAnswer(await sendRaw(gateway.internalPort, request.join('\r\n')));
}

/** An answer's status, headers (names in lower case) and problem, from its bytes as characters of Latin-1. */
export function parseAnswer(received: string) {
  const [head = '', ...rest] = received.split('\r\n\r\n');
  const [statusLine = '', ...lines] = head.split('\r\n');
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  const body = Buffer.from(rest.join('\r\n\r\n'), 'latin1').toString();
  return {
    status: Number(statusLine.split(' ')[1]),
    headers,
    problem: (body.startsWith('{') ? JSON.parse(body) : {}) as Record<string, unknown>,
  };
}
