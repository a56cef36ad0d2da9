import { Command } from 'commander';
import { InboxWorker } from '../billing/inbox-worker.ts';
import { reconcile } from '../billing/reconcile.ts';
import { createStripe, type StripeClient } from '../billing/stripe-client.ts';
import { type Config, loadConfig } from '../shared/config.ts';
import { duration, print, run, stripeAccount, table, withKeystore } from './command.ts';

/** Stripe lists events for 30 days. */
const USUALLY_BACK_MS = 30 * 86_400_000;
const CLOCKS_DIFFER_MS = 3_600_000;

type Options = { since?: number; dryRun?: boolean; json?: boolean };

const command = new Command('reconcile')
  .description(
    'Compare what is here with what is at Stripe, and put right what differs: paid checkouts without a key, subscriptions, refunds, disputes, missed events. Safe at any time, while everything runs.',
  )
  .option(
    '--since <duration>',
    'how far back to look, such as 12h or 30d; 30d when omitted, but not to before this keystore was first used',
    duration,
  )
  .option('--dry-run', 'say what would be done, and do nothing')
  .option('--json', 'print JSON')
  .action(reconcileNow);
await run(command);

async function reconcileNow(options: Options): Promise<void> {
  const wanted = loadConfig(process.env, 'tool');
  const account = stripeAccount(wanted);
  const stripe = createStripe(account);
  const config = wanted.stripe ? wanted : await withSandboxPrices(wanted, stripe);
  await withKeystore(async (keystore, _config, log) => {
    await keystore.bindMode(account.mode);
    const context = {
      stripe,
      mode: account.mode,
      keystore,
      plans: config.plans,
      keyPrefix: config.keyPrefix,
      ownOrigins: [new URL(config.publicBillingUrl).origin, ...config.redirectOrigins],
      log,
    };
    const dryRun = options.dryRun ?? false;
    const report = await reconcile(context, {
      since:
        options.since === undefined
          ? Math.max(Date.now() - USUALLY_BACK_MS, (await keystore.boundAt()) - CLOCKS_DIFFER_MS)
          : Date.now() - options.since,
      dryRun,
      ...(process.stderr.isTTY ? { onProgress: showProgress } : {}),
    });
    // The events that were fetched are worked on here, whether or not billing runs.
    if (!dryRun) await new InboxWorker(context).drain();
    if (process.stderr.isTTY) process.stderr.write('\r\u001b[K');
    const inbox = await keystore.inboxDepth();
    if (options.json) print({ dry_run: dryRun, ...report, inbox });
    else show(report, dryRun, inbox);
    if (report.drift.some((drift) => drift.open)) process.exitCode = 2;
  }, config);
}

/** The prices of the sandbox are made anew at each of its starts. */
async function withSandboxPrices(config: Config, stripe: StripeClient): Promise<Config> {
  // The image has no sandbox, nor what starts one.
  const { sandboxPrices } = await import('./compose.ts');
  return loadConfig({ ...process.env, ...(await sandboxPrices(config, stripe)) }, 'tool');
}

function showProgress(checked: Record<string, number>): void {
  const counts = Object.entries(checked).map(([what, count]) => `${count} ${what}`);
  process.stderr.write(`\r\u001b[KChecked ${counts.join(', ')} ...`);
}

function show(
  { drift, checked }: Awaited<ReturnType<typeof reconcile>>,
  dryRun: boolean,
  inbox: { pending: number; failed: number },
): void {
  const { purchases, subscriptions, payments, events } = checked;
  console.log(
    `Compared ${purchases} purchases, ${subscriptions} subscriptions, ${payments} payments and ${events} events with Stripe.`,
  );
  if (drift.length === 0) console.log('Everything here is as at Stripe.');
  else {
    console.log('');
    table(
      ['WHAT', 'ID', 'HERE', 'AT STRIPE', dryRun ? 'WOULD BE DONE' : 'DONE'],
      drift.map(({ what, id, here, atStripe, action, open }) => [
        what,
        id,
        here,
        atStripe,
        open ? `TO DO: ${action}` : action,
      ]),
    );
    console.log('');
    const open = drift.filter((each) => each.open).length;
    const others = drift.length - open;
    if (others > 0) console.log(dryRun ? `${others} would be put right.` : `${others} put right.`);
    if (open > 0) console.log(`${open} ${open === 1 ? 'needs' : 'need'} you.`);
  }
  if (inbox.failed > 0)
    console.log(`${inbox.failed} events have failed for good: npm run events -- list --failed`);
  if (inbox.pending > 0) console.log(`${inbox.pending} events wait to be tried again.`);
}
