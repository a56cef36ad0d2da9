import { askGateway, GATEWAY_TIMEOUT_MS, gatewayUrl, IDENTITY } from './ask-gateway.ts';
import { credentialLines, endsHere, presentedKeys } from './credentials.ts';
import type { VerifyKeyOptions } from './verify-key.ts';

export type RequireKeyOptions = Omit<VerifyKeyOptions, 'address'>;

/** What is needed of a request of Express or `node:http`. */
export type IncomingRequest = {
  method?: string | undefined;
  url?: string | undefined;
  /** Of Express: the whole target, also below a mounted router. */
  originalUrl?: string | undefined;
  /** Of Express: the client's address, by its setting `trust proxy`. */
  ip?: string | undefined;
  rawHeaders: string[];
  headers: Record<string, string | string[] | undefined>;
  headersDistinct?: Record<string, string[] | undefined>;
  socket: { remoteAddress?: string | undefined };
};

/** What is needed of a response of Express or `node:http`. */
export type OutgoingResponse = {
  statusCode: number;
  setHeader(name: string, value: string): unknown;
  end(body?: string): unknown;
};

/**
 * Middleware for Express (or anything with `(req, res, next)`) that lets a request pass when the gateway would. The handler
 * finds what an API behind the gateway finds: `X-Consumer-ID`, `X-Consumer-Plan`, `X-Credential-Identifier`, `X-Request-ID`,
 * and no key. What is refused is answered as the gateway answers it.
 *
 * ```ts
 * app.use('/v1', requireKey({ gateway: 'http://127.0.0.1:8013' }));
 * ```
 *
 * @throws TypeError for a `gateway` that is no address
 */
export function requireKey(
  options: RequireKeyOptions,
): (req: IncomingRequest, res: OutgoingResponse, next: (error?: unknown) => void) => Promise<void> {
  const gateway = gatewayUrl(options.gateway);
  const { timeoutMs = GATEWAY_TIMEOUT_MS, onNoAnswer = () => {} } = options;
  return async (req, res, next) => {
    const credentials = credentialLines(req.rawHeaders);
    const asked = {
      method: req.method ?? 'GET',
      host: typeof req.headers.host === 'string' ? req.headers.host : '',
      target: req.originalUrl ?? req.url ?? '/',
      address: req.ip ?? req.socket.remoteAddress ?? '',
      credentials,
    };
    const answer = await askGateway(gateway, asked, timeoutMs, onNoAnswer);
    for (const [name, value] of answer.forTheClient) res.setHeader(name, value);
    if (!answer.allowed) {
      res.statusCode = answer.status;
      res.end(answer.body);
      return;
    }
    const { identity } = answer;
    const keys = presentedKeys(credentials);
    const ours: string[] = [];
    for (const name of IDENTITY) ours.push(name, identity[name]);
    replaceHeaders(req, (name, value) => endsHere(name, value, keys), ours);
    next();
  };
}

/** Takes headers out of a request and puts others in, in every form in which it has them. @param added name, value, ... */
function replaceHeaders(
  req: IncomingRequest,
  goes: (name: string, value: string) => boolean,
  added: readonly string[],
): void {
  // Read before the lines change: Node makes each of them from the lines when it is first asked for.
  const { headers, headersDistinct, rawHeaders } = req;
  for (const form of [headers, headersDistinct ?? {}]) {
    for (const [name, value] of Object.entries(form)) {
      const values = typeof value === 'string' ? [value] : (value ?? []);
      if (values.some((each) => goes(name, each))) delete form[name];
    }
  }
  const kept = rawHeaders.filter((_each, i) => {
    const line = i - (i % 2);
    return !goes(rawHeaders[line] as string, rawHeaders[line + 1] as string);
  });
  rawHeaders.splice(0, rawHeaders.length, ...kept, ...added);
  for (let i = 0; i < added.length; i += 2) {
    const [name, value] = [added[i] as string, added[i + 1] as string];
    headers[name] = value;
    if (headersDistinct) headersDistinct[name] = [value];
  }
}
