import { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { isBreaking, watchForBreak } from './broken-connection.ts';

it('a connection is breaking for those who listen to it, and for nobody who is told of something else then', async () => {
  const seen: [string, boolean][] = [];
  const see = (who: string) => () => seen.push([who, isBreaking()]);
  const connection = new Duplex({ read() {}, write() {} });
  watchForBreak(connection, () => connection.on('error', see('listener')));
  connection.destroy(new Error('reset'));
  // Runs in the same sweep of the tick queue as the error, right after it.
  process.nextTick(see('other'));
  await turn();
  expect(seen).toEqual([
    ['listener', true],
    ['other', false],
  ]);
});
