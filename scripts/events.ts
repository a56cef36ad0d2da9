import { Command, Option } from 'commander';
import type { EventRecord, Keystore } from '../keystore/keystore.ts';
import { actor, fail, print, run, table, withKeystore } from './command.ts';

const program = new Command('events').description(
  'Look into the event inbox, and put events back to work. A billing process that runs then takes them.',
);
program
  .command('list')
  .description('List events, newest first.')
  .option('--failed', 'only those that failed for good and wait for you')
  .option('--waiting', 'only those that are not worked off yet')
  .option('--type <type>', 'only those of this type, such as invoice.paid')
  .option('--limit <n>', 'how many', Number, 50)
  .option('--json', 'print JSON')
  .action(list);
program
  .command('show <id>')
  .description('Show an event with its body.')
  .option('--json', 'print JSON')
  .action(show);
program
  .command('replay [id]')
  .description('Put an event back to work, whatever it came to.')
  .addOption(new Option('--all-failed', 'every event that failed for good'))
  .action(replay);
await run(program);

async function list(options: {
  failed?: boolean;
  waiting?: boolean;
  type?: string;
  limit: number;
  json?: boolean;
}): Promise<void> {
  if (options.failed && options.waiting) fail('Say --failed or --waiting, not both.');
  await withKeystore(async (keystore) => {
    const events = await keystore.listEvents({
      limit: options.limit,
      ...(options.failed ? { status: 'failed' } : options.waiting ? { status: 'pending' } : {}),
      ...(options.type ? { type: options.type } : {}),
    });
    if (options.json) print(events.map(({ payload: _payload, ...event }) => toJson(event)));
    else if (events.length === 0) console.log('No such events.');
    else {
      table(
        ['ID', 'TYPE', 'RECEIVED', 'STATUS', 'OUTCOME', 'TRIES', 'ERROR'],
        events.map((event) => [
          event.id,
          event.type,
          new Date(event.receivedAt).toISOString().slice(0, 19),
          event.status,
          event.outcome ?? '',
          String(event.attempts),
          event.error ?? '',
        ]),
      );
    }
  });
}

async function show(id: string, options: { json?: boolean }): Promise<void> {
  await withKeystore(async (keystore) => {
    const event = await keystore.findEvent(id);
    if (!event) fail(`There is no event ${id} in the inbox.`);
    const { payload, ...rest } = event;
    const shown = toJson(rest);
    if (options.json) {
      print({ ...shown, payload: JSON.parse(payload) });
      return;
    }
    table(
      [],
      Object.entries(shown).map(([name, value]) => [name, String(value ?? '')]),
    );
    console.log('');
    print(JSON.parse(payload));
  });
}

async function replay(id: string | undefined, options: { allFailed?: boolean }): Promise<void> {
  if ((id === undefined) === (options.allFailed !== true)) fail('Give the id of an event, or --all-failed.');
  await withKeystore(async (keystore) => {
    if (id !== undefined) {
      const outcome = await keystore.replayEvent({ id, actor });
      if (outcome === 'not_found') fail(`There is no event ${id} in the inbox.`);
      console.log(
        outcome === 'replayed' ? `${id} is back in the inbox.` : `${id} is waiting to be worked on already.`,
      );
      return;
    }
    // All of them are known before the first is replayed: one that fails anew at once is not to come up again.
    const failed = await failedEvents(keystore);
    for (const each of failed) await keystore.replayEvent({ id: each, actor });
    const count = failed.length;
    if (count === 0) console.log('No event has failed.');
    else console.log(`${count} ${count === 1 ? 'event is' : 'events are'} back in the inbox.`);
  });
}

async function failedEvents(keystore: Keystore): Promise<string[]> {
  const ids: string[] = [];
  for (let last: EventRecord | undefined; ; ) {
    const events = await keystore.listEvents({ status: 'failed', limit: 100, ...(last && { before: last }) });
    ids.push(...events.map(({ id }) => id));
    last = events.at(-1);
    if (last === undefined) return ids;
  }
}

function toJson(event: Omit<EventRecord, 'payload'>): Record<string, string | number | null> {
  return {
    id: event.id,
    type: event.type,
    status: event.status,
    outcome: event.outcome,
    attempts: event.attempts,
    error: event.error,
    created_at: new Date(event.createdAt).toISOString(),
    received_at: new Date(event.receivedAt).toISOString(),
    request_id: event.requestId,
    next_attempt_at: event.status === 'pending' ? new Date(event.nextAttemptAt).toISOString() : null,
  };
}
