import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { errors } from 'undici';
import { clientHeaders } from '../answers/client-headers.ts';
import type { Allowed } from '../decision/decision.ts';
import { OUR_PROTOCOL } from '../decision/presented-key.ts';
import type { Exchange } from '../listener/exchange.ts';
import type { Route } from '../routes/routes.ts';
import type { ForwardEvents } from '../upstream/forward.ts';
import { failureOf } from '../upstream/forward-failure.ts';
import type { Target } from '../upstream/upstream-group.ts';
import { upstreamHeaders, upstreamTarget } from '../upstream/upstream-headers.ts';

/** With what each side sent right after its part of the handshake. */
type Opened = (
  handshake: WebSocketHandshake,
  client: Socket,
  upstream: Socket,
  clientBytes: Buffer,
  upstreamBytes: Buffer,
) => void;

/** A client that sends more before it has its answer is read no further. */
const MAX_EARLY = 64 * 1024;

/**
 * A handshake on its way to a server of the upstream (RFC 6455 section 4), always over HTTP/1.1. When the server switches
 * protocols, the sockets are handed to `opened`; any other answer goes to the client as it is.
 */
export class WebSocketHandshake {
  readonly #exchange: Exchange;
  readonly #route: Route;
  readonly #allowed: Allowed | null;
  readonly #events: ForwardEvents;
  readonly #opened: Opened;
  readonly #startedAt = performance.now();
  #target: Target | null = null;
  #request: ClientRequest | null = null;
  #timer: NodeJS.Timeout | undefined;
  #asked = 0;
  #connected = false;
  #status = 0;
  #over = false;
  /** What the client sent without waiting for the answer. */
  #early: Buffer;

  constructor(
    exchange: Exchange,
    route: Route,
    allowed: Allowed | null,
    events: ForwardEvents,
    opened: Opened,
  ) {
    this.#exchange = exchange;
    this.#route = route;
    this.#allowed = allowed;
    this.#events = events;
    this.#opened = opened;
    this.#early = exchange.connection.upgrade as Buffer;
    exchange.res.once('close', this.#onClientGone);
    // Nobody else reads it now, and who does not read does not see that the client left.
    exchange.socket.on('data', this.#onEarly);
    exchange.socket.once('end', this.#onEnd);
  }

  get keyId(): string | null {
    return this.#allowed?.key.id ?? null;
  }

  start(): void {
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
    this.#target = target;
    this.#asked++;
    const { hostname, port, host } = new URL(target.origin);
    const headers = upstreamHeaders(this.#exchange, this.#route, this.#allowed);
    headers.push('Host', host, 'Connection', 'Upgrade', 'Upgrade', 'websocket');
    const request = (target.tls === null ? httpRequest : httpsRequest)({
      ...target.tls,
      host: hostname.replace(/^\[|\]$/g, ''),
      port: port || (target.tls === null ? 80 : 443),
      path: upstreamTarget(this.#exchange.target, this.#route, target),
      headers,
      agent: false,
    });
    this.#request = request;
    target.connections++;
    request.once('close', () => this.#connectionClosed(target, request));
    const { connectTimeoutMs, timeoutMs } = this.#route.upstream;
    this.#limit(request, connectTimeoutMs, new errors.ConnectTimeoutError());
    request.once('socket', (socket) => {
      socket.once(target.tls === null ? 'connect' : 'secureConnect', () => {
        this.#connected = true;
        this.#limit(request, timeoutMs, new errors.HeadersTimeoutError());
      });
    });
    request.once('upgrade', (response, socket, head) => this.#onUpgrade(response, socket as Socket, head));
    request.once('response', (response) => this.#onResponse(response));
    request.on('error', (error) => this.#onError(error));
    request.end();
  }

  onNoRoom(error: Error): void {
    this.#fail(error);
  }

  /** The connection is over. @param how as `ForwardEvents` has it */
  finish(how: 'complete' | 'truncated' | 'client_gone'): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#leave();
    this.#events.finished(this.#exchange, this.#status, how, this.keyId);
  }

  #limit(request: ClientRequest, milliseconds: number, error: Error): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => request.destroy(error), milliseconds);
    this.#timer.unref();
  }

  #answered(response: IncomingMessage): string[] {
    clearTimeout(this.#timer);
    this.#status = response.statusCode as number;
    this.#events.upstreamAnswered(performance.now() - this.#startedAt);
    this.#route.group.succeeded(this.#target as Target);
    return clientHeaders(response.rawHeaders, this.#exchange, this.#route, this.#allowed);
  }

  #onUpgrade(response: IncomingMessage, upstream: Socket, head: Buffer): void {
    const { res, socket } = this.#exchange;
    if (this.#over || !socket.writable) {
      upstream.destroy();
      return;
    }
    const headers = this.#answered(response);
    headers.push('Connection', 'Upgrade', 'Upgrade', 'websocket');
    const offered = this.#exchange.req.headers['sec-websocket-protocol'] ?? '';
    const chosen = response.headers['sec-websocket-protocol'];
    if (chosen === undefined && offered.split(',').some((each) => each.trim() === OUR_PROTOCOL))
      headers.push('Sec-WebSocket-Protocol', OUR_PROTOCOL);
    let text = 'HTTP/1.1 101 Switching Protocols\r\n';
    for (let i = 0; i < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`;
    res.off('close', this.#onClientGone);
    res.detachSocket(socket);
    socket.write(`${text}\r\n`, 'latin1');
    socket.off('data', this.#onEarly);
    socket.off('end', this.#onEnd);
    socket.resume();
    this.#opened(this, socket, upstream, this.#early, head);
  }

  #onResponse(response: IncomingMessage): void {
    if (this.#over) return;
    const { res } = this.#exchange;
    const headers = this.#answered(response);
    headers.push('Connection', 'close');
    res.writeHead(this.#status, headers);
    pipeline(response, res, (error) => {
      if (error) this.#exchange.socket.destroy();
      this.finish(error ? 'truncated' : 'complete');
    });
  }

  #onError(error: Error): void {
    if (this.#over || this.#status !== 0) return;
    clearTimeout(this.#timer);
    const target = this.#target as Target;
    const { group } = this.#route;
    this.#leave();
    group.failed(target, failureOf(error) === 'timeout');
    // Nothing was sent yet: another server may be asked.
    const next = this.#asked === 1 && !this.#connected && group.mayRetry() ? group.pick(target) : null;
    if (next === null) this.#fail(error);
    else if (next !== target) this.onRoom(next);
    else {
      group.release(next);
      this.#fail(error);
    }
  }

  readonly #onEarly = (chunk: Buffer): void => {
    if (this.#over) return;
    this.#early = Buffer.concat([this.#early, chunk]);
    if (this.#early.length > MAX_EARLY) this.#exchange.socket.pause();
  };

  /** There is no WebSocket with a client that sends nothing more. */
  readonly #onEnd = (): void => {
    if (!this.#over) this.#exchange.socket.destroy();
  };

  readonly #onClientGone = (): void => {
    if (this.#over) return;
    if (this.#asked === 0) this.#route.group.leave(this);
    const request = this.#request;
    this.finish('client_gone');
    request?.destroy();
  };

  #fail(error: Error): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#exchange.res.off('close', this.#onClientGone);
    this.#events.failed(this.#exchange, failureOf(error), error);
  }

  #connectionClosed(target: Target, request: ClientRequest): void {
    const { socket } = request;
    if (socket === null || socket.destroyed || this.#over) target.connections--;
    else socket.once('close', () => target.connections--);
  }

  #leave(): void {
    const target = this.#target;
    if (target === null) return;
    this.#target = null;
    this.#route.group.release(target);
  }
}
