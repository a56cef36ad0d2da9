import type { Socket } from 'node:net';
import { CLOSE_PROTOCOL_ERROR, closeFrame, FrameReader } from './websocket-frames.ts';

/** The reason that a client reads when its plan allows no more messages at the moment. */
export const BUDGET_SPENT = 'rate_limited';

/** How long a peer may take to close after it was told to, or after the other side did. */
const CLOSE_MS = 800;

/** A WebSocket between a client and a server of the upstream: bytes pass both ways, at the pace of the slower side. */
export class OpenWebSocket {
  readonly #client: Socket;
  readonly #upstream: Socket;
  readonly #fromClient: FrameReader;
  readonly #fromUpstream = new FrameReader(false);
  readonly #onEnd: () => void;
  #closing: { code: number; reason: string } | null = null;
  #told = false;
  #ended = false;
  #cut: NodeJS.Timeout | undefined;

  /**
   * @param onMessage called when a message of the client begins; `false` closes the connection instead
   * @param onEnd called once, when both sides are closed
   */
  constructor(client: Socket, upstream: Socket, onMessage: (() => boolean) | null, onEnd: () => void) {
    this.#client = client;
    this.#upstream = upstream;
    this.#fromClient = new FrameReader(true, onMessage);
    this.#onEnd = onEnd;
  }

  /** @param clientBytes what came after the handshake, of the client and of the server */
  start(clientBytes: Buffer, upstreamBytes: Buffer): void {
    for (const socket of [this.#client, this.#upstream]) {
      socket.setNoDelay(true);
      socket.setKeepAlive(true, 30_000);
      socket.on('error', () => socket.destroy());
      socket.once('close', this.#onClose);
    }
    if (upstreamBytes.length > 0) this.#onUpstreamData(upstreamBytes);
    if (clientBytes.length > 0) this.#onClientData(clientBytes);
    this.#client.on('data', this.#onClientData);
    this.#upstream.on('data', this.#onUpstreamData);
    this.#client.on('end', () => this.#upstream.end(this.#cutSoon));
    this.#upstream.on('end', () => this.#client.end(this.#cutSoon));
  }

  /** Tells both sides why, and closes. What is under way from the server to the client is finished first, if it can be. */
  close(code: number, reason: string): void {
    if (this.#closing !== null) return;
    this.#closing = { code, reason };
    this.#cutSoon();
    if (this.#fromClient.isBetweenFrames) this.#upstream.end(closeFrame(code, reason, true));
    else this.#upstream.end();
    this.#tellClient();
  }

  /** Nothing may stand in the middle of a frame, not even the end. */
  #tellClient(): void {
    if (this.#closing === null || this.#told || !this.#fromUpstream.isBetweenFrames) return;
    this.#told = true;
    this.#client.end(closeFrame(this.#closing.code, this.#closing.reason, false));
  }

  readonly #onClientData = (chunk: Buffer): void => {
    // Its answer to our close frame, or what it sent before it knew.
    if (this.#closing !== null) return;
    const passing = this.#fromClient.read(chunk);
    if (passing.length > 0) pass(passing, this.#client, this.#upstream);
    const { stopped } = this.#fromClient;
    if (stopped === null) return;
    this.close(stopped, stopped === CLOSE_PROTOCOL_ERROR ? 'not a WebSocket frame' : BUDGET_SPENT);
  };

  readonly #onUpstreamData = (chunk: Buffer): void => {
    if (this.#told) return;
    const passing = this.#fromUpstream.read(chunk);
    if (passing.length > 0) pass(passing, this.#upstream, this.#client);
    if (this.#fromUpstream.stopped !== null)
      this.close(CLOSE_PROTOCOL_ERROR, 'not a WebSocket frame of the API');
    this.#tellClient();
  };

  readonly #onClose = (): void => {
    this.#client.destroySoon();
    this.#upstream.destroySoon();
    if (this.#ended) return;
    this.#ended = true;
    this.#onEnd();
  };

  /** A side that keeps its half open has nobody to talk to, and must not hold on to the other's place. */
  readonly #cutSoon = (): void => {
    this.#cut ??= setTimeout(() => {
      this.#client.destroy();
      this.#upstream.destroy();
    }, CLOSE_MS).unref();
  };
}

function pass(bytes: Buffer, from: Socket, to: Socket): void {
  if (!to.writable) return;
  if (to.write(bytes)) return;
  from.pause();
  to.once('drain', () => from.resume());
}
