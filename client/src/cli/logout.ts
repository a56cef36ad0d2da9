import { TollgateError } from '../error.ts';
import { maskKey } from '../key.ts';
import { CHOICE, type Command, chosen } from './command.ts';
import { EXIT, UsageError } from './exit-codes.ts';
import { printable } from './terminal.ts';

export const logout: Command = {
  usage: 'logout [--yes]',
  summary: 'Release this device and remove the key from this machine.',
  help: [['--yes', 'also where the key was bought here, and there may be no other copy of it']],
  options: { ...CHOICE, yes: { type: 'boolean' } },
  words: 0,
  async run(given, { current, terminal }) {
    const tollgate = await current.tollgate(chosen(given));
    const { key, keyFrom, path, entitlement } = await tollgate.stored();
    if (key === null) {
      terminal.done('There is no key on this machine.');
      return EXIT.fine;
    }
    if (keyFrom !== 'given' && given.options.yes !== true) {
      throw new UsageError(
        `The key ${maskKey(key)} came to this machine when it was bought, and nobody can show it again.`,
        `Copy it from ${path} to a safe place, then: tollgate logout --yes`,
      );
    }
    if (entitlement !== null) {
      try {
        await tollgate.deactivate();
      } catch (error) {
        if (!(error instanceof TollgateError)) throw error;
        terminal.note(`This device stays on the server's list (${printable(error.message)})`);
      }
    }
    await tollgate.forget();
    terminal.done(`The key ${maskKey(key)} is removed from this machine. It goes on working elsewhere.`);
    return EXIT.fine;
  },
};
