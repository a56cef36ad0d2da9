import { spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import autocannon from 'autocannon';
import OpenAI from 'openai';
import { Client, fetch as undiciFetch } from 'undici';
import { afterEach, describe, expect, it } from 'vitest';
import WebSocket, { WebSocketServer } from 'ws';
import { closeAll, closeLater, startTestGateway, startUpstream } from './gateways.ts';
import { temporaryFolder } from './keystores.ts';

afterEach(closeAll);

async function behind(upstreamUrl: string, options: Parameters<typeof startTestGateway>[0] = {}) {
  const gateway = await startTestGateway({ upstreamUrl, ...options });
  return { gateway, ...(await gateway.key()) };
}

/** An echo of method, body and headers. */
const startEcho = () =>
  startUpstream((req, res) => {
    let body = '';
    req.on('data', (chunk) => (body += chunk));
    req.on('end', () => {
      res.setHeader('Content-Type', 'application/json');
      res.end(JSON.stringify({ method: req.method, url: req.url, body, headers: req.headers }));
    });
  });

describe('openai', () => {
  const WORDS = ['Pay', ' as', ' you', ' go'];
  const event = (delta: object, finish: string | null = null) =>
    `data: ${JSON.stringify({
      id: 'chatcmpl-1',
      object: 'chat.completion.chunk',
      created: 1,
      model: 'small',
      choices: [{ index: 0, delta, finish_reason: finish }],
    })}\n\n`;

  /** Speaks the streaming format of chat completions; sends each word when `next` is called. */
  async function startModel() {
    const streams: ServerResponse[] = [];
    const upstream = await startUpstream((req, res) => {
      req.resume();
      res.writeHead(200, { 'Content-Type': 'text/event-stream' });
      res.write(event({ role: 'assistant', content: '' }));
      streams.push(res);
    });
    return { upstream, streams };
  }

  it('streams a completion, word by word', async () => {
    const { upstream, streams } = await startModel();
    const { gateway, plaintext } = await behind(upstream.url);
    const client = new OpenAI({ apiKey: plaintext, baseURL: `${gateway.url}/v1` });
    const stream = await client.chat.completions.create({
      model: 'small',
      messages: [{ role: 'user', content: 'How do I pay?' }],
      stream: true,
    });
    const received: string[] = [];
    let sent = 0;
    for await (const chunk of stream) {
      const text = chunk.choices[0]?.delta.content ?? '';
      if (text !== '') received.push(text);
      // The next word leaves only when the one before is here.
      const [model] = streams as [ServerResponse];
      const word = WORDS[sent++];
      if (word !== undefined) model.write(event({ content: word }));
      else if (sent === WORDS.length + 1) model.end(`${event({}, 'stop')}data: [DONE]\n\n`);
    }
    expect(received).toEqual(WORDS);
    expect(upstream.requests).toMatchObject([{ method: 'POST', url: '/v1/chat/completions' }]);
    expect(JSON.stringify(upstream.requests)).not.toContain(plaintext);
  });

  it('comes again by itself when its limit has renewed, as Retry-After says', async () => {
    const { upstream, streams } = await startModel();
    const { gateway } = await behind(upstream.url, {
      plans: 'plans:\n  open: { name: Open }\n  slow: { name: Slow, limits: [{ requests: 1, per: 2s }] }\n',
    });
    const { plaintext } = await gateway.key('slow');
    const client = new OpenAI({ apiKey: plaintext, baseURL: `${gateway.url}/v1`, maxRetries: 2 });
    const ask = () =>
      client.chat.completions
        .create({ model: 'small', messages: [{ role: 'user', content: 'Hello?' }], stream: true })
        .withResponse();
    await ask();
    const { response } = await ask();
    expect(response.status).toBe(200);
    expect(streams, 'the one that was refused did not get here').toHaveLength(2);
    expect(gateway.lines.filter((line) => line.includes('"code":"rate_limited"'))).not.toEqual([]);
  });

  it('says of a wrong key what the gateway says', async () => {
    const { upstream } = await startModel();
    const { gateway, plaintext } = await behind(upstream.url);
    const client = new OpenAI({ apiKey: `${plaintext}x`, baseURL: `${gateway.url}/v1`, maxRetries: 0 });
    await expect(client.models.list()).rejects.toMatchObject({ status: 401, code: 'invalid_key' });
  });
});

describe('ws', () => {
  it('talks to a server through the gateway', async () => {
    const server = createServer();
    const sockets = new WebSocketServer({ server });
    sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(`<${data}>`)));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    closeLater({
      close: async () => {
        for (const socket of sockets.clients) socket.terminate();
        server.close();
      },
    });
    const { gateway, plaintext } = await behind(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const client = new WebSocket(gateway.url.replace('http', 'ws'), {
      headers: { Authorization: `Bearer ${plaintext}` },
    });
    const answer = await new Promise((resolve, reject) => {
      client.on('open', () => client.send('hello'));
      client.on('message', (data) => resolve(String(data)));
      client.on('error', reject);
    });
    expect(answer).toBe('<hello>');
    client.close();
  });
});

describe('undici', () => {
  it('fetch: with a body that streams both ways', async () => {
    const { gateway, plaintext } = await behind((await startUpstream((req, res) => void req.pipe(res))).url);
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const word of ['a', 'b', 'c']) controller.enqueue(new TextEncoder().encode(word));
        controller.close();
      },
    });
    const response = await undiciFetch(`${gateway.url}/`, {
      method: 'POST',
      body,
      duplex: 'half',
      headers: { 'X-API-Key': plaintext },
    });
    expect([response.status, await response.text()]).toEqual([200, 'abc']);
  });

  it('a client that pipelines gets its answers in order', async () => {
    const { gateway, plaintext } = await behind((await startEcho()).url);
    const client = new Client(gateway.url, { pipelining: 10 });
    const answers = await Promise.all(
      Array.from({ length: 100 }, async (_, i) => {
        const headers = i % 10 === 3 ? {} : { 'X-API-Key': plaintext };
        const { statusCode, body } = await client.request({ path: `/${i}`, method: 'GET', headers });
        const answer = (await body.json()) as { url?: string; code?: string };
        return [statusCode, answer.url ?? answer.code];
      }),
    );
    await client.close();
    expect(answers).toEqual(
      Array.from({ length: 100 }, (_, i) => (i % 10 === 3 ? [401, 'missing_key'] : [200, `/${i}`])),
    );
  });
});

describe('autocannon', () => {
  it('pipelined, on many connections: every answer is a 200', async () => {
    const { gateway, plaintext } = await behind((await startEcho()).url);
    const result = await autocannon({
      url: gateway.url,
      connections: 20,
      pipelining: 5,
      amount: 2000,
      headers: { 'X-API-Key': plaintext },
    });
    expect(result).toMatchObject({ non2xx: 0, errors: 0, timeouts: 0, mismatches: 0 });
    // It stops as soon as all are sent, and does not wait for the last ones of each pipeline.
    expect(result['2xx']).toBeGreaterThanOrEqual(2000 - 20 * 4);
  });
});

describe('curl', () => {
  const there = existsSync('/usr/bin/curl');
  if (!there && process.env.CI === 'true') throw new Error('curl is not there: install it');
  if (!there) console.warn('curl is not there: what it would show is not tested');

  function curl(...args: string[]): Promise<{ code: number | null; output: string }> {
    return new Promise((resolve) => {
      const child = spawn('curl', ['--silent', '--show-error', '--max-time', '20', ...args]);
      let output = '';
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (chunk) => {
          output += chunk.toString('latin1');
        });
      child.on('close', (code) => resolve({ code, output }));
    });
  }

  it.runIf(there)('an upload that waits for 100 Continue', async () => {
    const upstream = await startUpstream((req, res) => {
      let bytes = 0;
      req.on('data', (chunk) => (bytes += chunk.length));
      req.on('end', () => res.end(`${bytes} bytes`));
    });
    const { gateway, plaintext } = await behind(upstream.url);
    const file = join(temporaryFolder(), 'upload');
    writeFileSync(file, Buffer.alloc(3_000_000));
    const args = ['--http1.1', '-H', `X-API-Key: ${plaintext}`, '-H', 'Expect: 100-continue', '-T', file];
    const { code, output } = await curl('-v', ...args, gateway.url);
    expect(code).toBe(0);
    expect(output).toMatch(/100 Continue[\s\S]*3000000 bytes/);
    const refused = await curl('-v', '--http1.1', '-H', 'Expect: 100-continue', '-T', file, gateway.url);
    expect(refused.output).not.toContain('100 Continue');
    expect(refused.output).toMatch(/HTTP\/1\.1 401[\s\S]*missing_key/);
  });

  it.runIf(there)('HEAD, HTTP/1.0, an offer of HTTP/2, chunks, a compressed answer', async () => {
    const { gateway, plaintext } = await behind((await startEcho()).url);
    const key = ['-H', `X-API-Key: ${plaintext}`];
    const head = await curl('--head', ...key, gateway.url);
    expect([head.code, head.output]).toEqual([0, expect.stringMatching(/^HTTP\/1\.1 200 OK\r\n/)]);
    const old = await curl('--http1.0', '-i', ...key, gateway.url);
    expect([old.code, old.output]).toEqual([0, expect.stringMatching(/200 OK[\s\S]*"method":"GET"/)]);
    expect(old.output).not.toMatch(/transfer-encoding/i);
    const offer = await curl('--http2', ...key, gateway.url);
    expect([offer.code, offer.output]).toEqual([0, expect.stringContaining('"method":"GET"')]);
    expect(offer.output).not.toMatch(/"upgrade"|http2-settings/i);
    const chunks = await curl(...key, '-H', 'Transfer-Encoding: chunked', '-d', 'hello', gateway.url);
    expect(chunks.output).toContain('"body":"hello"');
    const compressed = await curl('--compressed', ...key, gateway.url);
    expect(compressed.output).toContain('"accept-encoding"');
  });
});
