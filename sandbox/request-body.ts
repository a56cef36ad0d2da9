import type { IncomingMessage } from 'node:http';
import { StripeError } from './errors.ts';

const mostBytes = 1_000_000;
const mostDrained = 16 * mostBytes;

/**
 * Reads a request's body as text. What is too large is read to its end all the same, so that the client is not cut
 * off before it sees the answer.
 *
 * @throws StripeError 413 beyond a megabyte.
 */
export async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= mostBytes) chunks.push(chunk);
    else if (size > mostDrained) break;
  }
  if (size > mostBytes) {
    throw new StripeError(413, {
      type: 'invalid_request_error',
      message: `Request body larger than ${mostBytes} bytes.`,
    });
  }
  return Buffer.concat(chunks).toString('utf8');
}
