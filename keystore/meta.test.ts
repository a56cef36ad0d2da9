import { afterEach, expect, it } from 'vitest';
import { closeKeystores, keystore } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';

afterEach(closeKeystores);

it('a turn is one process’s until it ends or runs out, and rests when it was done', async () => {
  let time = 1000;
  const url = newKeystoreUrl();
  const [a, b] = [await keystore({ url, now: () => time }), await keystore({ url, now: () => time })];
  const turn = (owner: string, restMs = 0) => ({ task: 'reconcile', owner, holdMs: 100, restMs });
  expect(await a.takeTurn(turn('a'))).toEqual({ doneAt: null });
  expect(await b.takeTurn(turn('b'))).toBe('busy');
  await b.endTurn({ task: 'reconcile', owner: 'b', doneAt: time });
  expect(await b.takeTurn(turn('b'))).toBe('busy');
  await a.endTurn({ task: 'reconcile', owner: 'a', doneAt: time });
  expect(await b.takeTurn(turn('b', 60))).toBe('rested');
  expect(await b.takeTurn(turn('b'))).toEqual({ doneAt: 1000 });
  // Killed in the middle: it was not done, and somebody else takes over when the time is up.
  time += 100;
  expect(await a.takeTurn(turn('a'))).toEqual({ doneAt: 1000 });
  await a.endTurn({ task: 'reconcile', owner: 'a', doneAt: null });
  expect(await a.takeTurn(turn('a'))).toEqual({ doneAt: 1000 });
});
