import { maskKey, productOf } from '../key.ts';
import { type BoughtKey, keepBought, type PendingPurchase, Purchases } from '../purchases.ts';
import { isOver } from '../renewal.ts';
import { Server } from '../server.ts';
import type { Mode } from '../shape.ts';
import { timeText } from '../time-text.ts';
import { activated } from './activated.ts';
import { openBrowser } from './browser.ts';
import { CHOICE, type Command, type Context, chosen, type Given, value } from './command.ts';
import { UsageError } from './exit-codes.ts';
import { printable } from './terminal.ts';

const WAIT_S = 1800;

export const buy: Command = {
  usage: 'buy --plan <plan> [--email <address>] [--mode test|live] [--no-open] [--timeout <seconds>]',
  summary: 'Buy a plan: pay in the browser, get the key here.',
  help: [
    ['--plan <plan>', 'the plan to buy, such as pro'],
    ['--email <address>', 'filled in at the checkout'],
    ['--mode test|live', 'refuse to buy from a server that is in the other mode'],
    ['--no-open', 'print the address of the checkout, and open no browser'],
    ['--timeout <seconds>', `how long to wait for the payment, ${WAIT_S} unless said`],
  ],
  options: {
    ...CHOICE,
    plan: { type: 'string' },
    email: { type: 'string' },
    mode: { type: 'string' },
    'no-open': { type: 'boolean' },
    timeout: { type: 'string' },
  },
  words: 0,
  async run(given, context) {
    const order = orderOf(given);
    const timeoutMs = secondsOf(value(given, 'timeout')) * 1000;
    const url = await context.current.server(chosen(given));
    const server = new Server(url);
    const purchases = new Purchases(server, context.current.folder);
    const { purchase, resumed, paid } = await purchases.open(order, () => refuseSecond(given, context));
    if (paid)
      context.terminal.line(`Taking the key of a purchase that is paid, for the plan ${purchase.plan}.`);
    else await show(purchase, resumed, given.options['no-open'] !== true, context);
    return take(purchases, purchase, server, timeoutMs, context);
  },
};

/** Waits for a purchase, takes its key and activates this device. */
export async function take(
  purchases: Purchases,
  purchase: PendingPurchase,
  server: Server,
  timeoutMs: number,
  context: Context,
): Promise<number> {
  const { terminal, current, interrupted } = context;
  await terminal.waiting('Waiting for the payment. Ctrl-C stops waiting and keeps the purchase.', () =>
    purchases.wait(purchase, timeoutMs, interrupted),
  );
  const bought: BoughtKey = await purchases.claim(purchase, (key) => keepBought(key, server, current.folder));
  const tollgate = current.of(server.url, productOf(bought.key));
  await current.remember(tollgate);
  terminal.done('Paid.');
  const { path } = await tollgate.stored();
  terminal.done(`Your key ${maskKey(bought.key)} is in ${path}`);
  return activated(tollgate, terminal);
}

/** A second key would take the place of the first, and somebody would pay twice. */
async function refuseSecond(given: Given, { current }: Context): Promise<void> {
  const tollgate = await current.tollgateIfAny(chosen(given));
  const licence = await tollgate?.stored();
  if (!licence || licence.key === null || isOver(licence.ended?.code ?? '')) return;
  throw new UsageError(
    `There is a licence here already${licence.plan === null ? '' : `, for the plan ${licence.plan}`} (${maskKey(licence.key)}).`,
    'To change the plan: tollgate portal. To buy another one all the same: tollgate logout, then buy.',
  );
}

async function show(
  purchase: PendingPurchase,
  resumed: boolean,
  open: boolean,
  context: Context,
): Promise<void> {
  const { terminal } = context;
  const { host } = new URL(purchase.server);
  const what = `the plan ${terminal.style('bold', purchase.plan)} at ${host}`;
  terminal.line(
    resumed ? `Going on with buying ${what}, begun at ${timeText(purchase.createdAt)}.` : `Buying ${what}.`,
  );
  terminal.line();
  terminal.line(`  ${terminal.style('cyan', purchase.checkoutUrl)}`);
  terminal.line(`  ${terminal.style('dim', `Purchase ${printable(purchase.purchaseId)}`)}`);
  terminal.line();
  const opened = open && (await openBrowser(purchase.checkoutUrl, process.platform, context.env));
  terminal.line(
    opened
      ? 'It opens in your browser. If it does not, open it yourself.'
      : 'Open it in a browser, and pay there.',
  );
}

function orderOf(given: Given): { plan: string; email?: string; mode?: Mode } {
  const plan = value(given, 'plan');
  const email = value(given, 'email');
  const mode = value(given, 'mode');
  if (!plan) throw new UsageError('Which plan?', 'Give --plan, such as --plan pro.');
  if (mode !== undefined && mode !== 'test' && mode !== 'live') {
    throw new UsageError(`--mode is "${mode}".`, 'It is test or live.');
  }
  if (email !== undefined && !/^[^\s@]+@[^\s@]+$/.test(email)) {
    throw new UsageError(`"${email}" is no e-mail address.`, 'Give one such as you@example.com.');
  }
  return { plan, ...(email === undefined ? {} : { email }), ...(mode === undefined ? {} : { mode }) };
}

function secondsOf(timeout: string | undefined): number {
  if (timeout === undefined) return WAIT_S;
  if (/^[0-9]{1,6}$/.test(timeout)) return Number(timeout);
  throw new UsageError(`--timeout is "${timeout}".`, 'Give whole seconds, such as 600.');
}
