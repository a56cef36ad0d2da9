import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { urlHost } from '../shared/config.ts';

const QUOTES = [
  ['Simplicity is prerequisite for reliability.', 'Edsger W. Dijkstra'],
  ['Make it work, make it right, make it fast.', 'Kent Beck'],
  ['Controlling complexity is the essence of computer programming.', 'Brian Kernighan'],
  ['The most effective debugging tool is still careful thought.', 'Brian Kernighan'],
] as const;
const STREAM_LINES = 5;
const STREAM_PAUSE_MS = 200;

/** What the demo API offers, by path. */
const ENDPOINTS: Record<string, { about: string; answer(req: IncomingMessage, res: ServerResponse): void }> =
  {
    '/v1/time': {
      about: 'what time it is',
      answer: (_req, res) => json(res, 200, { time: new Date().toISOString() }),
    },
    '/v1/quote': {
      about: 'something somebody said',
      answer(_req, res) {
        const [quote, author] = QUOTES[Math.floor(Math.random() * QUOTES.length)] as (typeof QUOTES)[number];
        json(res, 200, { quote, author });
      },
    },
    '/v1/echo': {
      about: 'the request as this API received it: without your key, with who you are',
      answer(req, res) {
        json(res, 200, { method: req.method, path: req.url, headers: req.headers });
      },
    },
    '/v1/stream': { about: `${STREAM_LINES} lines, one after the other`, answer: streamLines },
  };

/** A small API to try the gateway with, for whoever has none yet. It knows nothing of keys. */
export async function startDemoUpstream(at: {
  host: string;
  port: number;
}): Promise<{ url: string; close(): Promise<void> }> {
  const server = createServer((req, res) => {
    req.resume();
    const path = (req.url as string).split('?', 1)[0] as string;
    if (path === '/') {
      const endpoints = Object.entries(ENDPOINTS).map(([name, { about }]) => ({ path: name, about }));
      json(res, 200, { message: 'Welcome to the demo API.', endpoints });
    } else if (Object.hasOwn(ENDPOINTS, path)) ENDPOINTS[path]?.answer(req, res);
    else json(res, 404, { error: `There is no ${path} here. Try /.` });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(at.port, at.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${urlHost(at.host)}:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function streamLines(_req: IncomingMessage, res: ServerResponse): void {
  res.writeHead(200, { 'Content-Type': 'text/plain; charset=utf-8', 'Cache-Control': 'no-store' });
  let line = 0;
  const timer = setInterval(() => {
    line++;
    res.write(`line ${line} of ${STREAM_LINES}\n`);
    if (line < STREAM_LINES) return;
    clearInterval(timer);
    res.end();
  }, STREAM_PAUSE_MS);
  res.once('close', () => clearInterval(timer));
}

function json(res: ServerResponse, status: number, body: unknown): void {
  const text = `${JSON.stringify(body, null, 2)}\n`;
  res.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) });
  res.end(text);
}
