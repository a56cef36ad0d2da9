import type { Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import type { Dispatcher } from 'undici';
import { addFraming, sendableReason } from '../answers/answer-framing.ts';
import {
  clientHeaders,
  clientTrailers,
  type ReceivedHeaders,
  responseHeaders,
} from '../answers/client-headers.ts';
import type { Allowed } from '../decision/decision.ts';
import { askOverLink, isForLink } from '../links/linked-request.ts';
import type { UpstreamLinks } from '../links/upstream-links.ts';
import type { Taken } from '../listener/begun.ts';
import { type Connection, closeAfter, type Exchange } from '../listener/exchange.ts';
import type { Route } from '../routes/routes.ts';
import { isBreaking } from './broken-connection.ts';
import type { ForwardEvents } from './forward.ts';
import { connectionBroke, failureOf, isServersFault } from './forward-failure.ts';
import { afterWrites, lingerOverBody, RequestBody } from './request-body.ts';
import type { Target, WaitingRequest } from './upstream-group.ts';
import { isSendable, upstreamHeaders, upstreamTarget } from './upstream-headers.ts';

/** Up to this size a body is worth copying to save a write. */
const ONE_WRITE_BYTES = 16 * 1024;

/**
 * One request on its way upstream and its answer on the way back.
 *
 * Once, and only while nothing of an answer was received, a request that failed is sent again: when no byte of it was
 * sent, or when its method is idempotent (RFC 9110 section 9.2.2); its body, too, as far as that is kept. undici itself never
 * sends a request twice as long as a connection carries one at a time.
 */
export class Forwarding implements Dispatcher.DispatchHandler, WaitingRequest {
  readonly #exchange: Exchange;
  readonly #route: Route;
  readonly #allowed: Allowed | null;
  readonly #headers: string[];
  #body: RequestBody | null = null;
  readonly #events: ForwardEvents;
  /** Over which it is sent; `null`: over undici's connections. */
  readonly #links: UpstreamLinks | null;
  readonly #startedAt = performance.now();
  /** The server that is being asked, or will be in a later turn; `null` between two attempts and when all is over. */
  #target: Target | null = null;
  #controller: Dispatcher.DispatchController | null = null;
  /** What ends a request over a link that may still connect: nothing is sent by then, so it is no controller yet. */
  #linked: Pick<Dispatcher.DispatchController, 'abort'> | null = null;
  #status = 0;
  /** Something of an answer came from the server that is being asked. */
  #heard = false;
  #asked = 0;
  #answering = false;
  #over = false;
  /**
   * From the head of the answer until all that arrived at that moment was read: what comes meanwhile is sent in one piece,
   * and answers on different connections right after each other, so that whoever reads them all is woken once.
   */
  #waiting = false;
  /** All of the answer is there, and waits. */
  #complete = false;
  #held: Buffer | null = null;

  constructor(
    exchange: Exchange,
    route: Route,
    allowed: Allowed | null,
    events: ForwardEvents,
    links: UpstreamLinks | null,
  ) {
    const { req, head, connection } = exchange;
    this.#exchange = exchange;
    this.#route = route;
    this.#allowed = allowed;
    this.#events = events;
    this.#headers = upstreamHeaders(exchange, route, allowed, req.httpVersion);
    if (head.hasBody && head.contentLength !== null) this.#headers.push('Content-Length', head.contentLength);
    this.#links = !head.hasBody && (allowed === null || isSendable(allowed)) ? links : null;
    if (head.hasBody) this.#read(new RequestBody(req, route.policy.maxBodyBytes));
    if (!connection.watched) watch(exchange.socket, connection);
    connection.underWay = this;
  }

  /** Sends the request to a server of the route, as soon as one has room. @param taken one that was taken before */
  start(taken: Taken | null): void {
    if (taken !== null) {
      const { target, asked } = taken;
      if (asked === null) this.onRoom(target);
      else {
        this.#ask(target, asked);
        void asked.close();
      }
      return;
    }
    soon(this);
  }

  /** What could wait until all that had arrived was read, waits no longer. */
  turn(): void {
    if (this.#over) return;
    if (this.#waiting) this.flush();
    else if (this.#asked > 0) return;
    else if (this.#target === null) this.#takeServer();
    else this.#ask(this.#target);
  }

  #takeServer(): void {
    const { group } = this.#route;
    const target = group.pick();
    if (target !== null) {
      this.onRoom(target);
      return;
    }
    const error = group.wait(this);
    if (error !== null) this.#fail(error);
  }

  onRoom(target: Target): void {
    const { req, res, head } = this.#exchange;
    // An HTTP/1.0 client cannot have meant it (RFC 9110 section 10.1.1).
    if (head.expectsContinue && head.hasBody && req.httpVersionMinor > 0) {
      res.writeContinue();
      head.expectsContinue = false;
    }
    this.#ask(target);
  }

  onNoRoom(error: Error): void {
    this.#fail(error);
  }

  /** Now the first byte of the request is about to be sent. */
  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#asked > 1 || !IDEMPOTENT.has(this.#exchange.method)) this.#body?.keepNoLonger();
    if (this.#over) controller.abort(new ClientGone());
  }

  onResponseStarted(): void {
    this.#heard = true;
    this.#body?.keepNoLonger();
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    _headers: unknown,
    statusMessage?: string,
  ): void {
    if (this.#over) return;
    const { res, req } = this.#exchange;
    const received = controller.rawHeaders as ReceivedHeaders;
    if (status < 200) {
      // Over HTTP/2 nothing else says so.
      this.onResponseStarted();
      // HTTP/1.0 has no interim answers (RFC 9110 section 15.2).
      if (req.httpVersionMinor > 0) res.writeInformation(status, responseHeaders(received, this.#route));
      return;
    }
    this.#events.upstreamAnswered(performance.now() - this.#startedAt);
    this.#route.group.succeeded(this.#target as Target);
    const headers = clientHeaders(received, this.#exchange, this.#route, this.#allowed);
    addFraming(headers, received, this.#route, req, status);
    if (this.#events.stopping() && closeAfter(this.#exchange)) headers.push('Connection', 'close');
    this.#status = status;
    res.writeHead(status, sendableReason(status, statusMessage), headers);
    // While others of a pipeline are before it, `node:http` would put the head before interim answers that wait.
    if (res.socket === null) res.write('', 'latin1');
    this.#answering = true;
    // A small body usually came in the same packet and goes out with the headers. If not, nothing waits for it.
    this.#waiting = true;
    soon(this);
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

  onResponseEnd(controller: Dispatcher.DispatchController): void {
    if (this.#over) return;
    if (isBreaking()) {
      this.flush();
      this.#breakOff();
      this.#finish('truncated');
      return;
    }
    const { res } = this.#exchange;
    if (res.chunkedEncoding) {
      res.addTrailers(clientTrailers(controller.rawTrailers as ReceivedHeaders, this.#route));
    }
    this.#controller = null;
    this.#leave();
    if (this.#waiting) this.#complete = true;
    else this.#end();
  }

  /** All of the answer is there. */
  #end(): void {
    const { res, req, head, socket } = this.#exchange;
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
      this.flush();
      this.#breakOff();
      this.#finish('truncated');
      return;
    }
    const target = this.#target as Target;
    const sent = this.#controller !== null;
    // First, so that no request that waits for the server is sent there.
    if (isServersFault(error)) this.#route.group.failed(target, failureOf(error) === 'timeout');
    this.#leave();
    if (this.#asked === 1 && this.#mayAskAgain(sent, error) && this.#route.group.mayRetry()) {
      // undici destroys the one that it was given, which is nobody's failure then.
      if (this.#body !== null) this.#read(this.#body.again());
      // Not at once: undici is in the middle of putting the broken connection away. What else has broken meanwhile is
      // seen, too, before another connection is chosen.
      setImmediate(askAgain, this, target, error);
      return;
    }
    this.#fail(error);
  }

  /** Asks once more: another server if there is one, or the same when it was not out of reach. */
  askAgain(tried: Target, error: Error): void {
    if (this.#over || this.#body?.isFaulty) return;
    const { group } = this.#route;
    const target = group.pick(tried);
    if (target !== null && (target !== tried || connectionBroke(error))) {
      this.#ask(target);
      return;
    }
    if (target !== null) group.release(target);
    this.#fail(error);
  }

  #read(body: RequestBody): void {
    this.#body = body;
    body.once('error', (error) => this.#bodyFailed(body, error));
  }

  /** The body cannot be read to its end. Who is asked finds out by himself. */
  #bodyFailed(body: RequestBody, error: Error): void {
    if (body !== this.#body || this.#over || this.#answering || this.#target !== null) return;
    this.#route.group.leave(this);
    this.#fail(error);
  }

  /** The connection to the client is closed. */
  clientGone(): void {
    if (this.#over) return;
    const controller = this.#controller ?? this.#linked;
    if (this.#asked === 0) this.#route.group.leave(this);
    this.#finish('client_gone');
    if (controller === null) return;
    if (this.#body === null) controller.abort(new ClientGone());
    else afterWrites(() => controller.abort(new ClientGone()));
  }

  /** Sends what waited for more to come with it. */
  flush(): void {
    if (!this.#waiting || this.#over) return;
    this.#waiting = false;
    if (this.#complete) {
      this.#end();
      return;
    }
    const held = this.#held;
    this.#held = null;
    // Not by `flushHeaders`, which sends them as UTF-8.
    if (held === null) this.#exchange.res.write('', 'latin1');
    else this.#write(held);
  }

  #write(chunk: Buffer): void {
    const { res } = this.#exchange;
    const controller = this.#controller as Dispatcher.DispatchController;
    if (res.write(chunk)) return;
    controller.pause();
    res.once('drain', () => controller.resume());
  }

  /** @param begun what to go on with, where it was asked before */
  #ask(target: Target, begun: Dispatcher | null = null): void {
    const { method, target: requested } = this.#exchange;
    const { upstream } = this.#route;
    const links = begun === null && isForLink(method, target, upstream) ? this.#links : null;
    this.#target = target;
    this.#controller = null;
    this.#linked = null;
    const path = upstreamTarget(requested, this.#route, target);
    const request = { path, method, headers: this.#headers };
    this.#asked++;
    const linked =
      links === null ? null : askOverLink(links, target, upstream, request, this, this.#startedAt);
    if (linked === 'later' && this.#asked === 1) {
      this.#asked = 0;
      soon(this);
      return;
    }
    if (linked !== 'later' && linked !== null) {
      this.#linked = linked;
      return;
    }
    (begun ?? target.dispatcher).dispatch({ ...request, body: this.#body }, this);
  }

  #mayAskAgain(sent: boolean, error: Error): boolean {
    if (!isServersFault(error) || (this.#body !== null && !this.#body.isKept)) return false;
    const { method } = this.#exchange;
    return !sent || (!this.#heard && IDEMPOTENT.has(method) && connectionBroke(error));
  }

  /** Nothing was answered and nothing will be. */
  #fail(error: Error): void {
    this.#over = true;
    const { req } = this.#exchange;
    this.#forgetClient();
    this.#body?.detach();
    try {
      this.#events.failed(this.#exchange, failureOf(error), error);
    } catch (bug) {
      // Without an answer the client would wait for ever, and the exchange would never be over.
      this.#exchange.socket.destroy();
      this.#events.finished(this.#exchange, 0, 'truncated', this.#allowed?.key.id ?? null);
      throw bug;
    } finally {
      // What nobody wants is in the way of the next request.
      if (this.#body && !req.complete) req.resume();
    }
  }

  /**
   * The status is out and cannot be taken back: only a connection that ends too early tells the client that this is not
   * all. An HTTP/1.0 client may take its end for the end of the answer (RFC 9112 section 6.3), but not its reset.
   */
  #breakOff(): void {
    const { req, res, socket } = this.#exchange;
    // The answers before it in a pipeline are not cut off with it.
    if (res.socket === null) res.once('socket', () => setImmediate(() => socket.destroy()));
    else if (req.httpVersionMinor > 0) socket.destroy();
    else socket.resetAndDestroy();
  }

  #finish(how: 'complete' | 'truncated' | 'client_gone'): void {
    this.#over = true;
    this.#forgetClient();
    this.#leave();
    this.#events.finished(this.#exchange, this.#status, how, this.#allowed?.key.id ?? null);
  }

  #forgetClient(): void {
    const { connection } = this.#exchange;
    if (connection.underWay === this) connection.underWay = null;
    this.#body?.keepNoLonger();
  }

  /** The server has no more to do with this. */
  #leave(): void {
    const target = this.#target;
    if (target === null) return;
    this.#target = null;
    this.#route.group.release(target);
  }
}

/**
 * One listener a connection, not one a request. A function of its own: a closure in the constructor would have V8 keep the
 * first request of the connection with it, and through that every later one until all of the heap is looked through.
 */
function watch(socket: Socket, connection: Connection): void {
  connection.watched = true;
  socket.once('close', () => connection.underWay?.clientGone());
}

/** RFC 9110 section 9.2.2. */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'TRACE']);

/**
 * Requests to be sent and answers to be sent on, once all that has arrived by now was read. So those who read what comes
 * on many connections, an API or a load balancer, are woken once for all of it, and a server's connection that was closed
 * is known to be before a request goes there.
 */
let waiting: Forwarding[] = [];

function soon(forwarding: Forwarding): void {
  if (waiting.push(forwarding) === 1) setImmediate(turnAll);
}

function turnAll(): void {
  const all = waiting;
  waiting = [];
  for (const forwarding of all) forwarding.turn();
}

function askAgain(forwarding: Forwarding, tried: Target, error: Error): void {
  forwarding.askAgain(tried, error);
}

class ClientGone extends Error {
  constructor() {
    super('The client closed the connection');
    this.name = 'ClientGone';
  }
}
