import { openBrowser } from './browser.ts';
import { CHOICE, type Command, chosen } from './command.ts';
import { EXIT } from './exit-codes.ts';

export const portal: Command = {
  usage: 'portal [--no-open]',
  summary: "Open Stripe's portal: change card or plan, see invoices, cancel.",
  help: [['--no-open', 'print the address, and open no browser']],
  options: { ...CHOICE, 'no-open': { type: 'boolean' } },
  words: 0,
  async run(given, { current, terminal, env }) {
    const url = await (await current.tollgate(chosen(given))).portal();
    terminal.line(url);
    if (given.options['no-open'] !== true && (await openBrowser(url, process.platform, env))) {
      terminal.note('It opens in your browser.');
    }
    return EXIT.fine;
  },
};
