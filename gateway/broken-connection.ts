import type { Duplex } from 'node:stream';

let breaking = false;

/**
 * Makes {@link isBreaking} true while an error of this connection is being told. To be called before anybody else listens
 * to its errors.
 */
export function watchForBreak(socket: Duplex): void {
  socket.on('error', onError);
}

/**
 * Whether a connection to an upstream is breaking at this moment. undici takes the end of a connection for the end of an
 * answer without a length, also when the end is a reset: whoever is told that an answer is complete while this is true
 * knows better.
 */
export function isBreaking(): boolean {
  return breaking;
}

function onError(): void {
  breaking = true;
  // The other listeners are called before this.
  queueMicrotask(onTold);
}

function onTold(): void {
  breaking = false;
}
