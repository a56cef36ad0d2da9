import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Api } from './api.ts';
import { type Command, commands } from './control-commands.ts';
import { invalid, StripeError } from './errors.ts';
import { readBody } from './request-body.ts';

/** Answers one request under `/_sandbox/`: JSON, from this machine only, and not from a page in a browser. */
export async function handleControl(
  api: Api,
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
): Promise<void> {
  let status = 200;
  let body: unknown;
  try {
    requireLocal(request);
    const { found, id } = match(request.method ?? 'GET', url.pathname);
    const text = await readBody(request);
    const parsed = found.body.safeParse(text === '' ? {} : json(text));
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw invalid(`${issue?.path.join('.') || 'body'}: ${issue?.message}`, issue?.path.join('.'));
    }
    body = await found.run(api, parsed.data, id);
  } catch (error) {
    if (!(error instanceof StripeError)) throw error;
    status = error.status;
    body = { error: error.body };
  }
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(`${JSON.stringify(body, null, 2)}\n`);
}

function match(method: string, path: string): { found: Command<unknown>; id: string } {
  for (const found of commands) {
    const matched = new RegExp(`^${found.path.replace(':id', '([^/]+)')}$`).exec(path);
    if (matched && found.method === method) return { found, id: matched[1] ?? '' };
  }
  throw new StripeError(404, {
    type: 'invalid_request_error',
    message: `Unknown command: ${method} ${path}. See sandbox/README.md.`,
  });
}

/** A page of some website, open in a browser on this machine, is local too: it is known by its Origin. */
function requireLocal(request: IncomingMessage): void {
  const address = request.socket.remoteAddress ?? '';
  const loopback = address === '::1' || address.startsWith('127.') || address.startsWith('::ffff:127.');
  if (!loopback || request.headers.origin !== undefined || request.headers['sec-fetch-site'] !== undefined) {
    throw new StripeError(403, {
      type: 'invalid_request_error',
      message: 'The control API answers only programs on this machine.',
    });
  }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalid('The body is not JSON.');
  }
}
