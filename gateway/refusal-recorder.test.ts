import { afterEach, expect, it } from 'vitest';
import { type Keystore, KeystoreError, type Refusal } from '../keystore/keystore.ts';
import { createLogger } from '../shared/log.ts';
import { RefusalRecorder } from './refusal-recorder.ts';

const open: RefusalRecorder[] = [];
afterEach(async () => {
  for (const recorder of open.splice(0)) await recorder.close();
});

function recorder(recordRefusals: Keystore['recordRefusals']): RefusalRecorder {
  const made = new RefusalRecorder({ keystore: { recordRefusals }, log: createLogger({ level: 'silent' }) });
  open.push(made);
  return made;
}

const request = (requestId: string) =>
  ({
    requestId,
    method: 'GET',
    path: '/',
    head: { host: 'h' },
    address: '192.0.2.1',
    route: null,
    startedAt: 0,
  }) as Parameters<RefusalRecorder['note']>[0];

it('of a flood it writes the beginning, of each key and in all, and counts the rest', async () => {
  const written: Refusal[] = [];
  const refusals = recorder(async (batch) => void written.push(...batch));
  for (let i = 0; i < 1000; i++) refusals.note(request(`a${i}`), 'a', 'rate_limited', null);
  for (let i = 0; i < 1000; i++) refusals.note(request(`none${i}`), null, 'missing_key', null);
  await refusals.flush();
  expect(written.map(({ requestId }) => requestId).slice(0, 6)).toEqual([
    'a0',
    'a1',
    'a2',
    'a3',
    'a4',
    'none0',
  ]);
  expect(written).toHaveLength(25);
  expect([refusals.written, refusals.dropped]).toEqual([25, 1975]);
  for (let i = 0; i < 1000; i++) refusals.note(request(`k${i}`), `k${i}`, 'rate_limited', null);
  await refusals.flush();
  expect(written).toHaveLength(25 + 250);
});

it('what cannot be written waits; what comes meanwhile does not grow it', async () => {
  const written: Refusal[] = [];
  let away = true;
  const refusals = recorder(async (batch) => {
    if (away) throw new KeystoreError('away', 'SQLITE_IOERR');
    written.push(...batch);
  });
  refusals.note(request('first'), 'a', 'revoked_key', null);
  await refusals.flush();
  for (let i = 0; i < 2000; i++) refusals.note(request(`k${i}`), `k${i}`, 'rate_limited', null);
  await refusals.flush();
  away = false;
  await refusals.flush();
  expect(written[0]?.requestId).toBe('first');
  expect(written).toHaveLength(250);
  expect(refusals.written + refusals.dropped).toBe(2001);
});

it('what is refused while it writes is written next', async () => {
  const batches: string[][] = [];
  const begun = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const refusals = recorder(async (batch) => {
    batches.push(batch.map(({ requestId }) => requestId));
    begun.resolve();
    await goOn.promise;
  });
  refusals.note(request('one'), 'a', 'revoked_key', null);
  const writing = refusals.flush();
  await begun.promise;
  refusals.note(request('two'), 'a', 'revoked_key', null);
  goOn.resolve();
  await writing;
  await refusals.flush();
  expect(batches).toEqual([['one'], ['two']]);
});
