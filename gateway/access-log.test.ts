import { existsSync, readFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { createLogger } from '../shared/log.ts';
import { closeAll, startTestGateway, startUpstream } from '../test/gateways.ts';
import { temporaryFolder } from '../test/keystores.ts';
import { AccessLog } from './access-log.ts';

afterEach(closeAll);

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';

function linesOf(file: string): Record<string, unknown>[] {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

it('has a line for each request: who, what, and what became of it, and no secret', async () => {
  const file = join(temporaryFolder(), 'logs', 'access.log');
  const upstream = await startUpstream();
  const gateway = await startTestGateway({ upstreamUrl: upstream.url, env: { ACCESS_LOG: file } });
  const { plaintext, id } = await gateway.key('open');
  await gateway.get('/v1/items?token=hidden', plaintext, {
    headers: { traceparent: `00-${TRACE}-00f067aa0ba902b7-01` },
  });
  await gateway.get(`/v1/${plaintext}/"odd"`, plaintext);
  await gateway.get('/v1/none');
  await gateway.get('/whoami', plaintext);
  await vi.waitFor(() => expect(linesOf(file)).toHaveLength(4));
  expect(linesOf(file)).toMatchObject([
    {
      method: 'GET',
      path: '/v1/items',
      status: 200,
      outcome: 'forwarded',
      route: 'default',
      key: id,
      trace_id: TRACE,
    },
    { path: '/v1/tg_test_[redacted]/%22odd%22', status: 200 },
    { path: '/v1/none', status: 401, outcome: 'refused', route: 'default', code: 'missing_key' },
    { path: '/whoami', status: 200, outcome: 'answered' },
  ]);
  const [first, , , own] = linesOf(file);
  expect(own).not.toHaveProperty('route');
  expect(first).toMatchObject({
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
    request_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    address: '127.0.0.1',
    host: `127.0.0.1:${gateway.port}`,
    ms: expect.any(Number),
  });
  expect(upstream.requests[0]?.headers.traceparent).toBe(`00-${TRACE}-00f067aa0ba902b7-01`);
  const text = readFileSync(file, 'utf8');
  expect(text).not.toContain(plaintext);
  expect(text).not.toContain('hidden');
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

it('all lines are there after a stop', async () => {
  const file = join(temporaryFolder(), 'access.log');
  const gateway = await startTestGateway({ env: { ACCESS_LOG: file } });
  await Promise.all(Array.from({ length: 50 }, () => gateway.get('/x')));
  await gateway.close();
  expect(linesOf(file)).toHaveLength(50);
});

it('goes on in a new file after a rotation', async () => {
  const file = join(temporaryFolder(), 'access.log');
  const log = createLogger({ level: 'silent' });
  const gateway = await startTestGateway({ env: { ACCESS_LOG: file } });
  await gateway.get('/before');
  await vi.waitFor(() => expect(linesOf(file)).toHaveLength(1));
  renameSync(file, `${file}.1`);
  gateway.reopenLogs();
  await gateway.get('/after');
  await vi.waitFor(() => expect(linesOf(file)).toMatchObject([{ path: '/after' }]));
  expect(linesOf(`${file}.1`)).toMatchObject([{ path: '/before' }]);
  expect(() => new AccessLog(join(file, 'access.log'), log)).toThrow(/EEXIST|ENOTDIR/);
});

it('has nothing to open anew on standard output, nor after a stop', async () => {
  const log = createLogger({ level: 'silent' });
  const file = new AccessLog(join(temporaryFolder(), 'access.log'), log);
  for (const accessLog of [new AccessLog('stdout', log), file]) {
    accessLog.reopen();
    await accessLog.close();
    accessLog.reopen();
  }
});

it.runIf(existsSync('/dev/full'))('a full disk: said in the log, and requests go on', async () => {
  const gateway = await startTestGateway({ env: { ACCESS_LOG: '/dev/full' } });
  expect((await gateway.get('/x')).status).toBe(401);
  await vi.waitFor(() => expect(gateway.lines.join('')).toContain('The access log cannot be written'));
  expect((await gateway.get('/x')).status).toBe(401);
});
