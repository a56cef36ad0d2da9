import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Pool } from 'undici';
import { afterEach, expect, it } from 'vitest';
import { startGatewayProgram } from '../../test/gateway-program.ts';
import { closeAll, closeLater, startUpstream } from '../../test/gateways.ts';
import { eventually } from '../../test/servers.ts';

const COUNTED = join(import.meta.dirname, '../../test/requests-alive.ts');
const CONNECTIONS = 8;
const ROUNDS = 20;

afterEach(closeAll);

it('by the connections they came on, though these stay open', async () => {
  const upstream = await startUpstream();
  const { program, port, key } = await startGatewayProgram(upstream.url, {
    FAST_LANE: 'off',
    NODE_OPTIONS: `--expose-gc --import ${pathToFileURL(COUNTED)}`,
  });
  closeLater({ close: async () => void (await program.stop()) });
  const client = closeLater(new Pool(`http://127.0.0.1:${port}`, { connections: CONNECTIONS }));
  const get = async () => {
    const { statusCode, body } = await client.request({
      path: '/',
      method: 'GET',
      headers: { 'x-api-key': key },
    });
    await body.dump();
    return statusCode;
  };
  for (let round = 0; round < ROUNDS; round++) {
    const statuses = await Promise.all(Array.from({ length: CONNECTIONS }, get));
    expect(new Set(statuses)).toEqual(new Set([200]));
  }
  program.child.kill('SIGUSR2');
  const counted = await eventually(() => {
    const found = /(\d+) requests, in memory: \[(.*)\]/.exec(program.output());
    expect(found).not.toBeNull();
    return found?.slice(1);
  });
  expect(counted).toEqual([String(CONNECTIONS * ROUNDS), '']);
});
