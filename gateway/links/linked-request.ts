import { performance } from 'node:perf_hooks';
import { type Dispatcher, errors } from 'undici';
import type { UpstreamSpec } from '../routes/route-spec.ts';
import type { Target } from '../upstream/upstream-group.ts';
import type { Link, LinkUser } from './link.ts';
import type { Links } from './links.ts';
import { replay } from './replay.ts';
import { MAX_ANSWER_HEAD, type PlainResponse, readPlainResponse } from './response-grammar.ts';
import type { UpstreamLinks } from './upstream-links.ts';

/** A request without a body. */
export type BareRequest = {
  method: string;
  path: string;
  /** As name, value, ...; neither `Host`, `Connection` nor what says how long a body is. None has an end of line in it. */
  headers: readonly string[];
};

const NOTHING = Buffer.alloc(0);

/** What else is in a head could be refused by undici. No value has an end of line in it: `node:http` reads none that has. */
const PLAIN_HEAD = /^[\t\r\n\x20-\x7e]*$/;
/** With these a body is expected: it is said that there is none (RFC 9110 section 8.6). */
const EXPECT_A_BODY = new Set(['PUT', 'POST', 'PATCH', 'QUERY', 'PROPFIND', 'PROPPATCH']);

/** Whether a request is one for a link, to a server that is reached without TLS and HTTP/2. */
export function isForLink(method: string, target: Target, spec: UpstreamSpec): boolean {
  // The length of an answer to HEAD is about a body that does not come.
  return target.tls === null && !spec.http2 && method !== 'HEAD' && method !== 'CONNECT';
}

/**
 * Sends a request over a link, and tells whoever would have it from undici of what comes: an answer that is not plain, and any
 * failure, by way of undici itself, to which it happens once more.
 *
 * @param since when it was first tried, by `performance.now()`
 * @returns what ends it, also while its link still connects; `later`: a link is to be had in a later turn of the event loop;
 *   `null`: it is not for a link. Nothing was done in either case.
 */
export function askOverLink(
  links: UpstreamLinks,
  target: Target,
  spec: UpstreamSpec,
  request: BareRequest,
  handler: Dispatcher.DispatchHandler,
  since: number,
): Pick<Dispatcher.DispatchController, 'abort'> | 'later' | null {
  const linksThere = links.to(target);
  if (!linksThere.answersPlainly) return null;
  const when = linksThere.look(spec.maxConnections, performance.now(), since);
  if (when !== 'now') return when === 'later' ? 'later' : null;
  const head = headOf(request, linksThere.hop);
  const link = head === null ? null : linksThere.take(spec.maxConnections);
  if (head === null || link === null) return null;
  const linked = new LinkedRequest(links.sweepMs, linksThere, link, target, spec, request, handler);
  linked.send(head);
  return linked;
}

/** As undici writes it, latin1; `null` when it is not plain enough. */
function headOf({ method, path, headers }: BareRequest, hop: string): string | null {
  if (!path.startsWith('/')) return null;
  let head = `${method} ${path}${hop}`;
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  head += EXPECT_A_BODY.has(method) ? 'content-length: 0\r\n\r\n' : '\r\n';
  return PLAIN_HEAD.test(head) ? head : null;
}

class LinkedRequest implements LinkUser, Dispatcher.DispatchController {
  readonly #sweepMs: number;
  readonly #links: Links;
  readonly #target: Target;
  readonly #spec: UpstreamSpec;
  readonly #request: BareRequest;
  readonly #handler: Dispatcher.DispatchHandler;
  #link: Link | null;
  #sent = 0;
  /** The head of the answer that is coming. */
  #response: PlainResponse | null = null;
  /** Bytes of its body to come. */
  #left = 0;
  readonly rawHeaders: string[] = [];
  readonly rawTrailers: string[] = [];
  reason: Error | null = null;

  constructor(
    sweepMs: number,
    links: Links,
    link: Link,
    target: Target,
    spec: UpstreamSpec,
    request: BareRequest,
    handler: Dispatcher.DispatchHandler,
  ) {
    this.#sweepMs = sweepMs;
    this.#links = links;
    this.#link = link;
    this.#target = target;
    this.#spec = spec;
    this.#request = request;
    this.#handler = handler;
  }

  send(head: string): void {
    const link = this.#link as Link;
    this.#sent = head.length;
    if (link.connected) this.onConnected();
    link.send(this, head, []);
  }

  get aborted(): boolean {
    return this.reason !== null;
  }

  get paused(): boolean {
    return this.#link?.paused ?? false;
  }

  abort(reason: Error): void {
    if (this.#link === null) return;
    this.reason = reason;
    this.#link.destroy();
    this.#link = null;
    this.#handler.onResponseError?.(this, reason);
  }

  pause(): void {
    this.#link?.pause();
  }

  resume(): void {
    this.#link?.resume();
  }

  onConnected(): void {
    this.#handler.onRequestStart?.(this, null);
  }

  onBytes(bytes: Buffer, length: number): void {
    try {
      if (this.#response === null) this.#begin(bytes, length);
      else this.#pass(bytes, 0, length);
    } catch (error) {
      if (this.#link !== null) this.abort(error as Error);
      else this.#handler.onResponseError?.(this, error as Error);
    }
  }

  #begin(bytes: Buffer, length: number): void {
    const text = bytes.toString('latin1', 0, Math.min(length, MAX_ANSWER_HEAD));
    const end = text.indexOf('\r\n\r\n');
    const response = end < 0 ? null : readPlainResponse(bytes, text);
    if (response === null) {
      this.#links.answeredOtherwise();
      this.#goOnElsewhere(Buffer.from(bytes.subarray(0, length)));
      return;
    }
    this.#response = response;
    this.#left = response.length;
    this.#handler.onResponseStarted?.();
    const reason = takeApart(response.lines, this.rawHeaders);
    this.#handler.onResponseStart?.(this, response.status, {}, reason);
    this.#pass(bytes, end + 4, length);
  }

  #pass(bytes: Buffer, from: number, length: number): void {
    const wanted = Math.min(length - from, this.#left);
    this.#left -= wanted;
    if (wanted > 0) this.#handler.onResponseData?.(this, Buffer.from(bytes.subarray(from, from + wanted)));
    const link = this.#link;
    if (this.#left > 0 || link === null) return;
    // Who took the last of it too slowly has it all the same, and the next answer is for somebody else.
    if (link.paused) link.resume();
    // First, so that a request that waits for the server finds it.
    this.#links.giveBack(link, length > from + wanted ? 0 : (this.#response as PlainResponse).keepMs);
    this.#link = null;
    this.#handler.onResponseEnd?.(this, {});
  }

  onBroken(error: Error | null): void {
    const { connected } = this.#link as Link;
    if (this.#response === null) {
      this.#link = null;
      this.#goOnElsewhere(NOTHING, error, connected);
      return;
    }
    this.#link = null;
    this.#handler.onResponseError?.(this, error ?? new errors.SocketError('other side closed'));
  }

  sweep(now: number): void {
    const link = this.#link as Link;
    const { connectTimeoutMs, timeoutMs, idleTimeoutMs } = this.#spec;
    const { connected } = link;
    const waited = now - link.activeAt - this.#sweepMs;
    if (this.#response !== null) {
      if (!link.paused && waited > idleTimeoutMs) this.abort(new errors.BodyTimeoutError());
    } else if (waited > (connected ? timeoutMs : connectTimeoutMs)) {
      link.destroy();
      this.#link = null;
      const error = connected ? new errors.HeadersTimeoutError() : new errors.ConnectTimeoutError();
      this.#goOnElsewhere(NOTHING, error, connected);
    }
  }

  #goOnElsewhere(received: Buffer, error: Error | null = null, connected = true): void {
    const { timeoutMs, idleTimeoutMs } = this.#spec;
    const conversation = { sent: this.#sent, received, link: this.#link, error, connected };
    this.#link = null;
    const client = replay(this.#target.origin, conversation, {
      headersTimeout: timeoutMs,
      bodyTimeout: idleTimeoutMs,
    });
    const { method, path, headers } = this.#request;
    client.dispatch({ method, path, headers: headers as string[], body: null }, this.#handler);
    void client.close();
  }
}

/** Takes the lines of an answer's head apart. Returns the reason phrase. @param headers name, value, ... are put there */
function takeApart(lines: string, headers: string[]): string {
  const first = lines.indexOf('\r\n');
  let at = first + 2;
  while (at < lines.length) {
    const colon = lines.indexOf(':', at);
    const end = lines.indexOf('\r\n', colon);
    headers.push(lines.slice(at, colon), lines.slice(colon + 2, end));
    at = end + 2;
  }
  // After the version, the status and two blanks.
  return lines.slice(13, first);
}
