import type { Dispatcher } from 'undici';
import { clientHeaders, type ReceivedHeaders } from './client-headers.ts';
import { MalformedBody } from './connection-fault.ts';
import type { Allowed } from './decision.ts';
import { closeAfter, type Exchange } from './exchange.ts';
import { RequestBody } from './request-body.ts';
import type { Route } from './routes.ts';
import { upstreamHeaders, upstreamTarget } from './upstream-headers.ts';

/** How a forwarded request went wrong. */
export type ForwardFailure = 'unreachable' | 'timeout' | 'not_sendable' | 'malformed_body';

/** What the listener wants to know of a forwarded request. Exactly one of `finished` and `failed` is called, once. */
export type ForwardEvents = {
  /** The upstream's answer has begun, this many milliseconds after it was asked. */
  upstreamAnswered(milliseconds: number): void;
  /** The exchange is over: answered in full, cut off by the upstream, or given up by the client. */
  finished(
    exchange: Exchange,
    status: number,
    how: 'complete' | 'truncated' | 'client_gone',
    keyId: string | null,
  ): void;
  /** Nothing has been answered yet, and the upstream will not answer. */
  failed(exchange: Exchange, failure: ForwardFailure, error: Error): void;
  /** Whether the connection should close after this response. */
  stopping(): boolean;
};

/** Up to this size a body is worth copying to save a write. */
const ONE_WRITE_BYTES = 16 * 1024;
/** How long a client may go on sending a body that the upstream answered without. */
const LINGER_MS = 1000;

/** `..` as a path segment, also percent-encoded or with parameters (`..;`): with it a request could leave the path that `UPSTREAM_URL` names. */
const DOT_SEGMENTS = /(?:^|[/\\]|%2f|%5c)(?:\.|%2e){2}(?:$|[/\\?#;]|%2f|%5c|%3b)/i;

/** Sends requests on to the servers of their routes. */
export class Forwarder {
  readonly #events: ForwardEvents;

  constructor(events: ForwardEvents) {
    this.#events = events;
  }

  /**
   * Whether a target can be sent to the route it matched: not where it could leave the path that the route and its
   * servers' URLs name.
   */
  reaches({ path, rewrite, group }: Route, target: string): boolean {
    if (path === '/' && rewrite === null && group.targets.every(({ basePath }) => basePath === ''))
      return true;
    return !DOT_SEGMENTS.test(target.split('?', 1)[0] as string);
  }

  /** Sends a request on and its answer back, streaming both ways. @param allowed `null` on a public route */
  forward(exchange: Exchange, route: Route, allowed: Allowed | null): void {
    const { req, res, head } = exchange;
    const target = route.group.pick();
    if (target === null) {
      this.#events.failed(exchange, 'unreachable', new Error('No server of this route is fit to answer'));
      return;
    }
    const headers = upstreamHeaders(exchange, route, allowed, req.httpVersion);
    if (head.contentLength !== null) headers.push('Content-Length', head.contentLength);
    // An HTTP/1.0 client cannot have meant it (RFC 9110 section 10.1.1).
    if (head.expectsContinue && head.hasBody && req.httpVersionMinor > 0) res.writeContinue();
    const body = head.hasBody ? new RequestBody(req) : null;
    target.dispatcher.dispatch(
      { path: upstreamTarget(exchange.target, route, target), method: exchange.method, headers, body },
      new Forwarding(exchange, route, allowed, body, this.#events),
    );
  }
}

/** One answer on its way from the upstream to the client. */
class Forwarding implements Dispatcher.DispatchHandler {
  readonly #exchange: Exchange;
  readonly #route: Route;
  readonly #allowed: Allowed | null;
  readonly #body: RequestBody | null;
  readonly #events: ForwardEvents;
  readonly #startedAt = performance.now();
  #controller: Dispatcher.DispatchController | undefined;
  #status = 0;
  #answering = false;
  #over = false;
  /** From the head of the answer until the end of the tick: what comes meanwhile is sent in one piece. */
  #waiting = false;
  #held: Buffer | null = null;

  constructor(
    exchange: Exchange,
    route: Route,
    allowed: Allowed | null,
    body: RequestBody | null,
    events: ForwardEvents,
  ) {
    this.#exchange = exchange;
    this.#body = body;
    this.#route = route;
    this.#allowed = allowed;
    this.#events = events;
    exchange.res.once('close', () => this.#onClientClosed());
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#over) controller.abort(new ClientGone());
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    _headers: unknown,
    statusMessage?: string,
  ): void {
    // Interim answers (1xx) are for the hop that asked for them.
    if (status < 200 || this.#over) return;
    const { res } = this.#exchange;
    this.#events.upstreamAnswered(performance.now() - this.#startedAt);
    const received = controller.rawHeaders as ReceivedHeaders;
    const headers = clientHeaders(received, this.#exchange, this.#route, this.#allowed);
    if (this.#events.stopping() && closeAfter(this.#exchange)) headers.push('Connection', 'close');
    this.#status = status;
    res.writeHead(status, sendableReason(statusMessage), headers);
    this.#answering = true;
    // A small body usually came in the same packet and goes out with the headers. If not, nothing waits for it.
    this.#waiting = true;
    process.nextTick(flush, this);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#over) return;
    if (this.#waiting) {
      this.#held ??= chunk;
      if (this.#held === chunk) return;
      this.flush();
    }
    this.#write(chunk);
  }

  onResponseEnd(): void {
    if (this.#over) return;
    const { res, req, head, socket } = this.#exchange;
    this.#waiting = false;
    // As text, a small body shares one write with the headers; latin1 keeps its bytes as they are.
    if (this.#held === null) res.end();
    else if (this.#held.length <= ONE_WRITE_BYTES) res.end(this.#held.toString('latin1'), 'latin1');
    else res.end(this.#held);
    this.#finish('complete');
    if (this.#body && head.hasBody && !req.complete) {
      this.#body.detach();
      lingerOverBody(req, socket);
    }
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    if (this.#over) return;
    if (this.#answering) {
      // The status is out and cannot be taken back: only a broken connection tells the client that this is not all.
      this.#exchange.socket.destroy();
      this.#finish('truncated');
      return;
    }
    this.#over = true;
    this.#body?.detach();
    try {
      this.#events.failed(this.#exchange, failureOf(error), error);
    } catch (bug) {
      // Without an answer the client would wait for ever, and the exchange would never be over.
      this.#exchange.socket.destroy();
      this.#events.finished(this.#exchange, 0, 'truncated', this.#allowed?.key.id ?? null);
      throw bug;
    }
  }

  /** Sends what waited for more to come with it. */
  flush(): void {
    if (!this.#waiting || this.#over) return;
    this.#waiting = false;
    const held = this.#held;
    this.#held = null;
    if (held === null) this.#exchange.res.flushHeaders();
    else this.#write(held);
  }

  #write(chunk: Buffer): void {
    const { res } = this.#exchange;
    const controller = this.#controller as Dispatcher.DispatchController;
    if (res.write(chunk)) return;
    controller.pause();
    res.once('drain', () => controller.resume());
  }

  #onClientClosed(): void {
    if (this.#over) return;
    this.#finish('client_gone');
    this.#controller?.abort(new ClientGone());
  }

  #finish(how: 'complete' | 'truncated' | 'client_gone'): void {
    this.#over = true;
    this.#events.finished(this.#exchange, this.#status, how, this.#allowed?.key.id ?? null);
  }
}

/** The upstream's reason phrase, or Node's own where it is not of the form RFC 9112 section 4 gives it. */
function sendableReason(reason: string | undefined): string {
  return reason !== undefined && /^[\t\x20-\x7e\x80-\xff]*$/.test(reason) ? reason : '';
}

function flush(forwarding: Forwarding): void {
  forwarding.flush();
}

/** Takes what the client still sends, for a moment, so that it reads the answer; then the connection ends. */
function lingerOverBody(req: Exchange['req'], socket: Exchange['socket']): void {
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  timer.unref();
  req.once('end', () => clearTimeout(timer));
  req.resume();
}

function failureOf(error: Error): ForwardFailure {
  if (error instanceof MalformedBody) return 'malformed_body';
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') return 'timeout';
  return code === 'UND_ERR_INVALID_ARG' || code === 'UND_ERR_NOT_SUPPORTED' ? 'not_sendable' : 'unreachable';
}

class ClientGone extends Error {
  constructor() {
    super('The client closed the connection');
    this.name = 'ClientGone';
  }
}
