import { TollgateError } from '../error.ts';
import { maskKey, readKey } from '../key.ts';
import { Purchases } from '../purchases.ts';
import { Server } from '../server.ts';
import { activated } from './activated.ts';
import { take } from './buy.ts';
import { CHOICE, type Command, type Context, chosen, type Given, value } from './command.ts';
import { EXIT, UsageError } from './exit-codes.ts';
import { readSecret } from './read-secret.ts';

export const login: Command = {
  usage: 'login [--key -]',
  summary: 'Use a key that you have, or take one that you paid for.',
  help: [
    [
      '--key -',
      'read the key from standard input; it never stands on a command line, where others could read it',
    ],
    ['', 'without: go on with a purchase that was begun here'],
  ],
  options: { ...CHOICE, key: { type: 'string' } },
  words: 0,
  async run(given, context) {
    const key = value(given, 'key');
    if (key === undefined) return goOn(given, context);
    if (key !== '-') {
      throw new UsageError(
        'A key on a command line can be read by every program on this machine, and stays in the history of the shell.',
        'Give --key - and the key on standard input. If this was a real key, replace it.',
      );
    }
    return useKey((await readSecret('Paste your key, then Enter: ')).trim(), given, context);
  },
};

async function useKey(key: string, given: Given, { current, terminal }: Context): Promise<number> {
  const { product } = readKey(key);
  const { product: wanted = product } = chosen(given);
  const tollgate = current.of(await current.server(chosen(given)), wanted);
  const before = await storedKey(tollgate);
  if (before !== null && before !== key) {
    throw new UsageError(
      `There is a key here already (${maskKey(before)}).`,
      'Remove it first: tollgate logout',
    );
  }
  if (before === null) await tollgate.keep(key);
  await current.remember(tollgate);
  const exit = await activated(tollgate, terminal);
  const { ended } = await tollgate.stored();
  // A key that the server does not take is of no use here.
  if (before === null && (ended?.code === 'invalid_key' || ended?.code === 'wrong_mode'))
    await tollgate.forget();
  return exit;
}

/** What is damaged is kept aside when the new key is put down. */
async function storedKey(tollgate: { stored(): Promise<{ key: string | null }> }): Promise<string | null> {
  try {
    return (await tollgate.stored()).key;
  } catch (error) {
    if (error instanceof TollgateError && error.code === 'storage_corrupt') return null;
    throw error;
  }
}

async function goOn(given: Given, context: Context): Promise<number> {
  const server = new Server(await context.current.server(chosen(given)));
  const purchases = new Purchases(server, context.current.folder);
  let open = 0;
  for (const purchase of await purchases.pending()) {
    const state = await purchases.stateOf(purchase);
    if (state === 'paid') return take(purchases, purchase, server, 0, context);
    if (state === 'open') open += 1;
  }
  if (open === 0)
    throw new UsageError('No purchase waits here.', 'To use a key that you have: tollgate login --key -');
  context.terminal.problem(
    'The purchase that was begun here is not paid yet.',
    'Go on with it: tollgate buy --plan ...',
  );
  return EXIT.notEntitled;
}
