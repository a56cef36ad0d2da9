import { Agent, type IncomingMessage, request } from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';

/** How long the gateway's answer may take, milliseconds. */
export const GATEWAY_TIMEOUT_MS = 5000;
/** No decision is near this. */
const MAX_BYTES = 64 * 1024;
const KEPT_CONNECTIONS = { keepAlive: true, maxSockets: 256 };
const agents = { 'http:': new Agent(KEPT_CONNECTIONS), 'https:': new TlsAgent(KEPT_CONNECTIONS) };

/** Of an answer of the gateway's, what is the client's. */
const FOR_THE_CLIENT = new Set([
  'allow',
  'cache-control',
  'content-type',
  'ratelimit',
  'ratelimit-policy',
  'retry-after',
  'www-authenticate',
  'x-ratelimit-limit',
  'x-ratelimit-remaining',
  'x-ratelimit-reset',
  'x-request-id',
]);
/** Of these, what stands in a problem only. */
const OF_A_PROBLEM = new Set(['allow', 'cache-control', 'content-type', 'retry-after', 'www-authenticate']);
/** What the gateway says of who sent a request, each always there, even when it is empty. */
export const IDENTITY = [
  'x-consumer-id',
  'x-consumer-plan',
  'x-credential-identifier',
  'x-request-id',
] as const;

/** A request that came here, and that the gateway is asked about. */
export type AskedAbout = {
  method: string;
  host: string;
  /** Path and query, as they came. */
  target: string;
  /** The client's IP address. */
  address: string;
  /** Its `X-API-Key` and `Authorization` lines, as name, value, ... */
  credentials: readonly string[];
};

/** Header lines, as name and value. */
export type Lines = [name: string, value: string][];

/** What the gateway decided. */
export type GatewayAnswer =
  | { allowed: true; identity: Record<(typeof IDENTITY)[number], string>; forTheClient: Lines }
  | { allowed: false; status: number; forTheClient: Lines; body: string };

/** Said when no decision is to be had: never the customer's fault. */
const NO_ANSWER: GatewayAnswer = {
  allowed: false,
  status: 503,
  forTheClient: [
    ['Content-Type', 'application/problem+json'],
    ['Cache-Control', 'no-store'],
    ['Retry-After', '1'],
  ],
  body: JSON.stringify({
    type: 'urn:tollgate:problem:keystore_unavailable',
    title: 'Temporarily unavailable',
    status: 503,
    detail: 'The key could not be checked right now.',
    code: 'keystore_unavailable',
    remedy: 'Your key is not the problem. Try again in a moment.',
  }),
};

/**
 * Asks a gateway's `/verify` about a request, as a proxy would, and is always answered: with the gateway's decision, or, when
 * there is none in time, with a 503 that says so.
 *
 * @param gateway its internal listener, such as `http://127.0.0.1:8013`
 * @param onNoAnswer told why there was none
 */
export async function askGateway(
  gateway: URL,
  asked: AskedAbout,
  timeoutMs: number,
  onNoAnswer: (error: Error) => void,
): Promise<GatewayAnswer> {
  try {
    const until = performance.now() + timeoutMs;
    const [answer, body] = await send(gateway, asked, until).catch((error: Error & { stale?: boolean }) => {
      if (error.stale) return send(gateway, asked, until);
      throw error;
    });
    return decisionOf(answer, body);
  } catch (error) {
    onNoAnswer(error as Error);
    return NO_ANSWER;
  }
}

/**
 * @param until when to give up, on the clock of `performance.now()`
 * @throws Error `stale` when a kept connection turned out to be closed, so that the question was not heard
 */
function send(gateway: URL, asked: AskedAbout, until: number): Promise<[IncomingMessage, string]> {
  const { method, host, target, address, credentials } = asked;
  const tls = gateway.protocol === 'https:';
  return new Promise((resolve, reject) => {
    const question = (tls ? tlsRequest : request)(new URL('/verify', gateway), {
      agent: tls ? agents['https:'] : agents['http:'],
      headers: [
        'Host',
        gateway.host,
        'X-Forwarded-Method',
        method,
        'X-Forwarded-Host',
        host,
        'X-Forwarded-Uri',
        target,
        'X-Forwarded-For',
        address,
        ...credentials,
      ] as unknown as string[],
    });
    const late = setTimeout(
      () => question.destroy(new Error('No answer in time')),
      until - performance.now(),
    );
    question.once('close', () => clearTimeout(late));
    question.once('error', (error: NodeJS.ErrnoException) => {
      reject(Object.assign(error, { stale: question.reusedSocket && error.code === 'ECONNRESET' }));
    });
    question.once('response', (answer) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      answer.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_BYTES) question.destroy(new Error('The answer is too long'));
        else chunks.push(chunk);
      });
      answer.once('error', reject);
      answer.once('end', () => resolve([answer, Buffer.concat(chunks).toString()]));
      answer.once('close', () => reject(new Error('The answer was cut off')));
    });
    question.end();
  });
}

/** @throws Error for what no gateway would answer: something else listens there */
function decisionOf(
  { statusCode: status = 0, headers, rawHeaders }: IncomingMessage,
  body: string,
): GatewayAnswer {
  const forTheClient: Lines = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    const lower = name.toLowerCase();
    if (!FOR_THE_CLIENT.has(lower) || (status === 200 && OF_A_PROBLEM.has(lower))) continue;
    forTheClient.push([name, rawHeaders[i + 1] as string]);
  }
  if (status === 200 && IDENTITY.every((name) => typeof headers[name] === 'string')) {
    const identity = Object.fromEntries(IDENTITY.map((name) => [name, headers[name]])) as Record<
      (typeof IDENTITY)[number],
      string
    >;
    return { allowed: true, identity, forTheClient };
  }
  const problem =
    headers['content-type'] === 'application/problem+json' && headers['x-request-id'] !== undefined;
  if (status < 400 || !problem)
    throw new Error(`What answers there with ${status} is not a gateway of Tollgate`);
  return { allowed: false, status, forTheClient, body };
}

/** The gateway's address. @throws TypeError when it is none */
export function gatewayUrl(given: string): URL {
  const url = URL.canParse(given) ? new URL(given) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.pathname !== '/') {
    throw new TypeError(
      `gateway has to be the address of its internal listener, such as http://127.0.0.1:8013`,
    );
  }
  return url;
}
