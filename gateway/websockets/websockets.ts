import { type IncomingMessage, type Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Allowed } from '../decision/decision.ts';
import type { KeyStanding } from '../decision/key-standing.ts';
import { spendMessage } from '../decision/spending.ts';
import type { Connections } from '../listener/connections.ts';
import type { Connection, Exchange } from '../listener/exchange.ts';
import type { Route } from '../routes/routes.ts';
import type { ForwardEvents } from '../upstream/forward.ts';
import { BUDGET_SPENT, OpenWebSocket } from './open-websocket.ts';
import { CLOSE_GOING_AWAY, CLOSE_POLICY_VIOLATION, CLOSE_TRY_AGAIN } from './websocket-frames.ts';
import { WebSocketHandshake } from './websocket-handshake.ts';

export type WebSocketOptions = {
  events: ForwardEvents;
  standing: Pick<KeyStanding, 'whyNot' | 'planOf'>;
  now(): number;
};

/** How often it is looked at whether keys may still be used: notices of changes come in between, the end of a time does not. */
const LOOK_MS = 500;

type Held = { websocket: OpenWebSocket; features: readonly string[]; address: string };

/** The WebSockets that are open, by the key that opened them. */
export class WebSockets {
  readonly #options: WebSocketOptions;
  readonly #open = new Set<OpenWebSocket>();
  readonly #byKey = new Map<string, Set<Held>>();
  readonly #timer: NodeJS.Timeout;
  #stopping = false;

  constructor(options: WebSocketOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#look(this.#byKey.keys()), LOOK_MS);
    this.#timer.unref();
  }

  get count(): number {
    return this.#open.size;
  }

  /** Sends a handshake on. @param allowed `null` on a public route */
  forward(exchange: Exchange, route: Route, allowed: Allowed | null): void {
    const { events } = this.#options;
    const { address } = exchange;
    const opened = (
      handshake: WebSocketHandshake,
      client: Socket,
      upstream: Socket,
      clientBytes: Buffer,
      upstreamBytes: Buffer,
    ) => {
      const onMessage = allowed === null ? null : this.#counter(allowed, () => websocket);
      const websocket: OpenWebSocket = new OpenWebSocket(client, upstream, onMessage, () => {
        this.#open.delete(websocket);
        if (allowed !== null) this.#forget(allowed.key.id, held);
        handshake.finish('complete');
      });
      const held = { websocket, features: route.policy.features, address };
      this.#open.add(websocket);
      websocket.start(clientBytes, upstreamBytes);
      if (this.#stopping) websocket.close(CLOSE_GOING_AWAY, 'restarting');
      if (allowed === null) return;
      const { id } = allowed.key;
      const others = this.#byKey.get(id);
      if (others) others.add(held);
      else this.#byKey.set(id, new Set([held]));
      // What changed while the handshake was under way is known by now.
      this.#look([id]);
    };
    new WebSocketHandshake(exchange, route, allowed, events, opened).start();
  }

  /** Something may have changed about these keys. */
  changed(keys: Iterable<string> | 'everything'): void {
    this.#look(keys === 'everything' ? this.#byKey.keys() : keys);
  }

  /** Closes all of them. */
  closeAll(): void {
    this.#stopping = true;
    clearInterval(this.#timer);
    for (const websocket of this.#open) websocket.close(CLOSE_GOING_AWAY, 'restarting');
  }

  /** Counts messages against the budget of the plan that the key has at the time. */
  #counter({ key, plan, counters }: Allowed, websocket: () => OpenWebSocket): () => boolean {
    const { standing, now } = this.#options;
    const budget = { key, plan, counters };
    return () => {
      budget.plan = standing.planOf(key.id) ?? budget.plan;
      const counted = spendMessage(budget, now());
      if (!(counted instanceof Promise)) return counted;
      // Messages keep their order and do not wait: the one that was too many is the last.
      counted.then(
        (allowed) => {
          if (!allowed) websocket().close(CLOSE_POLICY_VIOLATION, BUDGET_SPENT);
        },
        // Nothing passes uncounted where the seller wants it so.
        () => websocket().close(CLOSE_TRY_AGAIN, 'limits_unavailable'),
      );
      return true;
    };
  }

  #look(keys: Iterable<string>): void {
    for (const id of keys) {
      for (const held of this.#byKey.get(id) ?? []) {
        const reason = this.#options.standing.whyNot(id, held.features, held.address);
        if (reason instanceof Promise) void reason.then((late) => end(held, late));
        else end(held, reason);
      }
    }
  }

  #forget(id: string, held: Held): void {
    const others = this.#byKey.get(id);
    others?.delete(held);
    if (others?.size === 0) this.#byKey.delete(id);
  }
}

function end({ websocket }: Held, reason: string | null): void {
  if (reason !== null) websocket.close(CLOSE_POLICY_VIOLATION, reason);
}

/**
 * Has the handshakes of WebSockets go the way of every other request, with a response of their own, since the connection is
 * no longer `node:http`'s. Other offers to upgrade are ignored, as RFC 9110 section 7.8 allows.
 */
export function acceptWebSockets(
  server: Server,
  connections: Pick<Connections, 'get'>,
  onRequest: (req: IncomingMessage, res: ServerResponse) => void,
): void {
  server.on('upgrade', (req: IncomingMessage, stream, head: Buffer) => {
    const socket = stream as Socket;
    const connection = connections.get(socket) as Connection;
    socket.on('error', () => socket.destroy());
    connection.upgrade = head;
    connection.ending = true;
    const res = new ServerResponse(req);
    res.shouldKeepAlive = false;
    res.assignSocket(socket);
    res.once('finish', () => {
      res.detachSocket(socket);
      socket.destroySoon();
    });
    onRequest(req, res);
  });
}

/**
 * Whether a request is the handshake of a WebSocket (RFC 6455 section 4.1), and the only one under way on its connection:
 * the answer to the one before it has been sent, too, or there would be two of them on the socket at a time.
 */
export function isHandshake(req: IncomingMessage, connections: Pick<Connections, 'get'>): boolean {
  return (
    req.method === 'GET' &&
    req.httpVersion === '1.1' &&
    req.headers.upgrade?.toLowerCase() === 'websocket' &&
    req.headers['content-length'] === undefined &&
    req.headers['transfer-encoding'] === undefined &&
    connections.get(req.socket)?.busy === 0 &&
    isAnswerSent(req.socket)
  );
}

/** Nothing else tells of it: a small answer is with the socket before `node:http` has found out that it is sent. */
function isAnswerSent(socket: Socket & { _httpMessage?: ServerResponse | null }): boolean {
  return (socket._httpMessage ?? null) === null;
}
