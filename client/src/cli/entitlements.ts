import { activated } from './activated.ts';
import { CHOICE, type Command, chosen } from './command.ts';
import { EXIT, UsageError } from './exit-codes.ts';
import { showStatus } from './status.ts';

export const entitlements: Command = {
  usage: 'entitlements status|refresh|clear [--json]',
  summary: "This device's entitlement: look at it, fetch the next one now, or forget it.",
  help: [
    ['status', 'as tollgate status'],
    ['refresh', 'fetch a new one; activates this device if it is not'],
    ['clear', 'forget it; the key stays, and refresh brings it back'],
    ['--json', 'with status: print JSON'],
  ],
  options: { ...CHOICE, json: { type: 'boolean' } },
  words: 1,
  async run(given, context) {
    const { current, terminal } = context;
    const [what] = given.words;
    if (what === 'status') return showStatus(given, context);
    if (what === 'clear') {
      const tollgate = await current.tollgate(chosen(given));
      await tollgate.clear();
      terminal.done('The entitlement is forgotten. The key is kept: tollgate entitlements refresh');
      return EXIT.fine;
    }
    if (what !== 'refresh')
      throw new UsageError('status, refresh or clear?', `tollgate ${entitlements.usage}`);
    return activated(await current.tollgate(chosen(given)), terminal);
  },
};
