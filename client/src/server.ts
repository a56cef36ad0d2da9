import { TollgateError } from './error.ts';
import { type Shape, shape, text, textOrNull } from './shape.ts';

/** How long an answer may take in all, milliseconds. */
const TIMEOUT_MS = 5000;
/** No answer of Tollgate is near this. */
const MAX_BYTES = 512 * 1024;

export type Question = {
  /** Sent as JSON. */
  body?: object;
  /** Sent as `Authorization: Bearer`: a key, or the claim token of a purchase. */
  bearer?: string;
  signal?: AbortSignal | undefined;
};

export type Answer = {
  body: Shape;
  status: number;
  /** What the server's clock says, milliseconds since the epoch; `null`: it does not tell. */
  serverTime: number | null;
};

/** The seller's server, over HTTPS. Secrets go in headers and bodies, never in an address, and never to another origin. */
export class Server {
  /** Without a slash at its end. */
  readonly url: string;
  readonly #timeoutMs: number;

  /**
   * @param timeoutMs how long an answer may take
   * @throws TollgateError `insecure_server`
   */
  constructor(url: string, timeoutMs = TIMEOUT_MS) {
    this.url = serverUrl(url);
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Asks and waits for the answer, bounded.
   *
   * @throws TollgateError with the server's code; `server_unreachable`, `unexpected_answer`, `aborted`
   */
  async ask(method: 'GET' | 'POST', path: string, question: Question = {}): Promise<Answer> {
    const { body, bearer, signal } = question;
    const abort = new AbortController();
    const late = setTimeout(() => abort.abort(), this.#timeoutMs);
    const giveUp = () => abort.abort();
    signal?.addEventListener('abort', giveUp);
    if (signal?.aborted) abort.abort();
    try {
      const response = await fetch(this.url + path, {
        method,
        // A redirect would carry the key to wherever it says.
        redirect: 'error',
        signal: abort.signal,
        headers: {
          Accept: 'application/json',
          ...(body ? { 'Content-Type': 'application/json' } : {}),
          ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}),
        },
        ...(body ? { body: JSON.stringify(body) } : {}),
      });
      return read(response, await bodyOf(response));
    } catch (error) {
      if (error instanceof TollgateError) throw error;
      if (signal?.aborted) throw new TollgateError('aborted', 'Nobody waits for the answer any more.');
      throw this.#unreachable(error, abort.signal.aborted);
    } finally {
      clearTimeout(late);
      signal?.removeEventListener('abort', giveUp);
    }
  }

  #unreachable(error: unknown, late: boolean): TollgateError {
    const { hostname } = new URL(this.url);
    const why = late ? `no answer within ${this.#timeoutMs / 1000} seconds` : reasonOf(error);
    return new TollgateError(
      'server_unreachable',
      `${hostname} cannot be reached (${why}).`,
      'Check the network and try again. Your licence is not the problem.',
      { cause: error },
    );
  }
}

/**
 * The address of a server in its one spelling.
 *
 * @throws TollgateError `insecure_server` when keys would travel over a network in the clear
 */
export function serverUrl(given: string): string {
  let url: URL;
  try {
    url = new URL(given);
  } catch {
    throw new TollgateError(
      'insecure_server',
      `"${given}" is not the address of a server.`,
      'Give one such as https://buy.example.com.',
    );
  }
  const loopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(url.hostname);
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && loopback)) {
    throw new TollgateError(
      'insecure_server',
      `${url.origin === 'null' ? given : url.origin} is not HTTPS, so others could read your key on its way.`,
      'Use https://. Plain http:// is for a server on this machine only.',
    );
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new TollgateError(
      'insecure_server',
      'A server is an address alone, without a user, a query or a fragment.',
      `Give ${url.origin}.`,
    );
  }
  return url.origin + url.pathname.replace(/\/+$/, '');
}

async function bodyOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES) throw unexpected(response, 'its answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** A status alone proves nothing: whatever stands in between may answer 401 or 402. A problem of Tollgate's has a code. */
function read(response: Response, body: string): Answer {
  const type = response.headers.get('content-type') ?? '';
  const problem = /^application\/problem\+json\b/i.test(type);
  if (!problem && !/^application\/json\b/i.test(type)) throw unexpected(response, 'it is not JSON');
  let said: Shape;
  try {
    said = shape(JSON.parse(body), 'the answer');
  } catch {
    throw unexpected(response, 'it is not JSON');
  }
  if (response.ok) {
    const date = Date.parse(response.headers.get('date') ?? '');
    return { body: said, status: response.status, serverTime: Number.isNaN(date) ? null : date };
  }
  if (!problem) throw unexpected(response, `status ${response.status} without a problem`);
  throw problemError(response, said);
}

function problemError(response: Response, said: Shape): TollgateError {
  let code: string;
  let detail: string;
  let remedy: string | null;
  try {
    code = text(said, 'code');
    detail = text(said, 'detail');
    remedy = textOrNull(said, 'remedy');
  } catch {
    throw unexpected(response, 'a problem without a code');
  }
  const {
    type: _,
    title: _title,
    status: _status,
    code: _code,
    detail: _detail,
    remedy: _remedy,
    ...rest
  } = said;
  const header = Number(response.headers.get('retry-after') ?? Number.NaN);
  const retry = rest.retry_after === undefined && Number.isFinite(header) ? { retry_after: header } : {};
  return new TollgateError(code, detail, remedy, {
    status: response.status,
    extensions: { ...rest, ...retry },
  });
}

function unexpected(response: Response, why: string): TollgateError {
  const { host } = new URL(response.url);
  return new TollgateError(
    'unexpected_answer',
    `What answers at ${host} is not Tollgate (${why}).`,
    'Check the address of the server, and whether this network asks you to sign in first.',
  );
}

/** An error of `fetch` says what happened in its cause. */
function reasonOf(error: unknown): string {
  const cause = (error as { cause?: { code?: unknown; message?: unknown } }).cause;
  if (typeof cause?.code === 'string') return cause.code;
  if (typeof cause?.message === 'string' && cause.message !== '') return cause.message;
  return (error as Error).message;
}
