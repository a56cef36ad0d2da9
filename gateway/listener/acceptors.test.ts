import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { Acceptors, listen } from './acceptors.ts';

const CLIENTS = 200;

function acceptors(alone = false) {
  const server = createServer((_req, res) => res.end('done'));
  const all = new Acceptors(server, { noDelay: true }, alone);
  onTestFinished(() => {
    all.close();
    server.closeAllConnections();
  });
  return { server, all };
}

/** How many turns of the event loop it takes until all of many clients that connect at the same moment are accepted. */
async function turnsUntilAccepted(alone: boolean): Promise<number> {
  const { server, all } = acceptors(alone);
  let accepted = 0;
  server.on('connection', (socket) => {
    accepted++;
    socket.destroy();
  });
  const port = await all.listen(0, '127.0.0.1');
  for (let i = 0; i < CLIENTS; i++) connect(port, '127.0.0.1').on('error', () => {});
  let turns = 0;
  for (; accepted < CLIENTS; turns++) await turn();
  return turns;
}

it.runIf(process.platform === 'linux')('many connections are accepted in one turn', async () => {
  expect(await turnsUntilAccepted(true)).toBeGreaterThanOrEqual(CLIENTS);
  expect(await turnsUntilAccepted(false)).toBeLessThan(CLIENTS / 4);
});

it('a port that another program listens on is refused, and one that another gateway listens on, too', async () => {
  const other = createTcpServer();
  onTestFinished(() => void other.close());
  const port = await listen(other, { port: 0, host: '127.0.0.1' });
  await expect(acceptors().all.listen(port, '127.0.0.1')).rejects.toMatchObject({ code: 'EADDRINUSE' });

  const taken = await acceptors().all.listen(0, '127.0.0.1');
  await expect(acceptors().all.listen(taken, '127.0.0.1')).rejects.toMatchObject({ code: 'EADDRINUSE' });
});

it('whichever socket a client came by, it is answered; once closed, nobody comes by any, and who is there stays', async () => {
  const { all } = acceptors();
  const port = await all.listen(0, '127.0.0.1');
  const clients = Array.from({ length: 64 }, () => connect(port, '127.0.0.1'));
  const answers = clients.map(() => '');
  for (const [i, client] of clients.entries()) {
    client.on('data', (data) => {
      answers[i] += data.toString('latin1');
    });
    client.write('GET / HTTP/1.1\r\nHost: h\r\n\r\n');
  }
  await expect.poll(() => answers.every((answer) => answer.endsWith('done'))).toBe(true);
  all.close();
  for (let i = 0; i < 64; i++) {
    const late = connect(port, '127.0.0.1');
    const [error] = (await once(late, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNREFUSED');
  }
  for (const client of clients) client.write('GET / HTTP/1.1\r\nHost: h\r\n\r\n');
  await expect.poll(() => answers.every((answer) => answer.split('done').length === 3)).toBe(true);
});
