import type { Duplex } from 'node:stream';

let breaking = false;

/**
 * Makes {@link isBreaking} true while those who listen to this connection are told of an error of it.
 *
 * @param listen has all of them listen; nobody may before
 */
export function watchForBreak(socket: Duplex, listen: () => void): void {
  socket.on('error', begin);
  listen();
  socket.on('error', end);
}

/**
 * Whether a connection to an upstream is breaking at this moment. undici takes the end of a connection for the end of an
 * answer without a length, also when the end is a reset: whoever is told that an answer is complete while this is true
 * knows better.
 */
export function isBreaking(): boolean {
  return breaking;
}

function begin(): void {
  breaking = true;
}

function end(): void {
  breaking = false;
}
