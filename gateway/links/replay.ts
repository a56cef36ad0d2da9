import { Duplex } from 'node:stream';
import { Client, type Dispatcher } from 'undici';
import { watchForBreak } from '../upstream/broken-connection.ts';
import type { Link, LinkUser } from './link.ts';

const NOTHING = Buffer.alloc(0);

/** What has passed between us and a server of the upstream about one request. */
export type Conversation = {
  /** Bytes of the request that the connection was given to send. */
  sent: number;
  /** The bytes that came back so far. */
  received: Buffer;
  /** The connection, where it still stands. */
  link: Link | null;
  /** Why it does not stand; `null` when the upstream closed it in order. */
  error: Error | null;
  /** Whether there ever was a connection. */
  connected: boolean;
};

/**
 * A dispatcher for one request, to which it happens as it happened on a link: nothing is sent again, and what the
 * upstream answered, or how its connection failed, is found out by the client that finds it out on every other request.
 */
export function replay(origin: string, conversation: Conversation, spec: Client.Options): Dispatcher {
  // Until somebody goes on with it, what happens on the connection is part of the past.
  conversation.link?.pause();
  conversation.link?.handTo({
    onBytes(bytes, length) {
      conversation.received = Buffer.concat([conversation.received, bytes.subarray(0, length)]);
    },
    onBroken(error) {
      conversation.link = null;
      conversation.error = error;
    },
  });
  return new Client(origin, {
    ...spec,
    connect: (_options, done) => {
      // Not within the call: undici does not expect a connection that soon.
      process.nextTick(() => {
        if (conversation.connected) {
          const replayed = new Replayed(conversation);
          watchForBreak(replayed, () => done(null, replayed as never));
        } else done(conversation.error ?? new Error('The connection was closed'), null);
      });
    },
  });
}

/** The upstream's connection, with the past still to come. */
class Replayed extends Duplex implements LinkUser {
  readonly #conversation: Conversation;
  #toSwallow: number;
  #begun = false;

  constructor(conversation: Conversation) {
    super({ allowHalfOpen: false });
    this.#conversation = conversation;
    this.#toSwallow = conversation.sent;
    conversation.link?.handTo(this);
  }

  /** An answer that came before its question would be taken for nobody's. */
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#toSwallow -= chunk.length;
    if (this.#toSwallow <= 0 && !this.#begun) {
      this.#begun = true;
      setImmediate(() => this.#begin());
    }
    done();
  }

  override _read(): void {
    if (this.#begun) this.#conversation.link?.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#conversation.link?.destroy();
    // As a socket, which has let go of what it was given before it is closed.
    setImmediate(done, error);
  }

  onBytes(bytes: Buffer, length: number): void {
    if (!this.push(Buffer.from(bytes.subarray(0, length)))) this.#conversation.link?.pause();
  }

  onBroken(error: Error | null): void {
    this.#conversation.link = null;
    this.#conversation.error = error;
    if (this.#begun) this.#end();
  }

  #begin(): void {
    if (this.destroyed) return;
    const { received, link } = this.#conversation;
    if (received.length > 0) this.push(received);
    this.#conversation.received = NOTHING;
    if (link !== null) link.resume();
    // As from a socket: what came is read before what came after it is known.
    else setImmediate(() => this.#end());
  }

  #end(): void {
    const { error } = this.#conversation;
    if (error === null) this.push(null);
    else this.destroy(error);
  }
}
