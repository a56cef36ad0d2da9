import type { Server } from 'node:http';
import { type BoundSocket, Socket } from 'node:net';
import { Readable } from 'node:stream';
import { beforeReaders } from './listener.ts';

/** Who gets the bytes of a connection before its stream does. */
export type Taker = {
  /**
   * Takes the first so many bytes of a buffer, which is used again after the call.
   *
   * @returns whether it did; if not, they are the stream's
   */
  onBytes(bytes: Buffer, length: number): boolean;
};

/** A read is handled before the next one begins, on whatever connection. */
const READ = Buffer.allocUnsafe(64 * 1024);

/**
 * A client's connection that is read into one buffer for all. `node:net` can do so with connections that one opens (`onread`);
 * those that it accepts get a new buffer for each read, and bring it by way of a stream, which is a tenth of all that a
 * request in the fast lane costs. Nothing is different for who reads the stream.
 */
export class ClientSocket extends Socket {
  taker: Taker | null = null;

  private constructor(handle: unknown) {
    super({
      // As `node:net` makes sockets of what it accepts. Documented is a `BoundSocket` in this place.
      handle: handle as BoundSocket,
      allowHalfOpen: true,
      onread: { buffer: READ, callback: (length) => this.#onRead(length) },
    });
  }

  /** Takes over a connection that was just accepted. Returns the socket it came as where that is not possible. */
  static of(accepted: Socket): Socket {
    const { _handle: handle } = accepted as { _handle?: { useUserBuffer?: unknown } };
    if (typeof handle?.useUserBuffer !== 'function') return accepted;
    (accepted as { _handle?: unknown })._handle = null;
    // There is nothing left in it that could be closed; its server counts one less.
    accepted.destroy();
    return new ClientSocket(handle);
  }

  /** As with any stream, some more is read: so the end of the connection is seen. */
  override pause(): this {
    return Readable.prototype.pause.call(this) as this;
  }

  #onRead(length: number): boolean {
    const taken =
      this.taker !== null &&
      this.readableFlowing === true &&
      this.readableLength === 0 &&
      this.taker.onBytes(READ, length);
    return taken || this.push(Buffer.from(READ.subarray(0, length)));
  }
}

/** Has the connections of a listener read into one buffer. To be called when all are there who do anything with them. */
export function readIntoOneBuffer(server: Server): void {
  beforeReaders(server, (socket, next) => next(ClientSocket.of(socket)));
}
