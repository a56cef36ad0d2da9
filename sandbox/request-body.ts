import type { IncomingMessage } from 'node:http';
import { StripeError } from './errors.ts';

const mostBytes = 1_000_000;

/** Reads a request's body as text. @throws StripeError 413 beyond a megabyte. */
export async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > mostBytes) {
      throw new StripeError(413, {
        type: 'invalid_request_error',
        message: `Request body larger than ${mostBytes} bytes.`,
      });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
