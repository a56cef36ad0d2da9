import { subscribe } from 'node:diagnostics_channel';
import type { ClientHttp2Stream } from 'node:http2';

let noticed = false;

/**
 * Has an answer over HTTP/2 that the server took back with `CANCEL` end in an error. Node ends its stream as if it were
 * complete and undici believes it, so that the client would take half an answer for the whole. To be called before the
 * first request; Node announces each stream before undici listens to it.
 *
 * A reset with `NO_ERROR` looks like the end of an answer to Node's HTTP/2 library, and there is nothing to tell it by.
 */
export function noticeResets(): void {
  if (noticed) return;
  noticed = true;
  subscribe('http2.client.stream.created', (message) => {
    const { stream } = message as { stream: ClientHttp2Stream };
    stream.on('end', () => {
      if (stream.rstCode) stream.emit('error', new Error(`The server reset the stream: ${stream.rstCode}`));
    });
  });
}
