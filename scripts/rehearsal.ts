import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import {
  type Result as Check,
  outcomeOf,
  type PreflightContext,
  preflightConfig,
  runPreflight,
  withoutConfiguration,
} from '../billing/preflight/preflight.ts';
import {
  chooseGoods,
  type Finding,
  type Rehearsal,
  type Result,
  rehearsalPlan,
  rehearse,
} from '../billing/rehearsal/rehearsal.ts';
import { KeystoreError } from '../keystore/keystore.ts';
import { ConfigError } from '../shared/config.ts';
import type { Mode } from '../shared/keys.ts';
import { duration, fail, print, run } from './command.ts';
import { preflightSummary, showCheck, withPreflightContext } from './preflight-parts.ts';

type Options = {
  mode: Mode;
  execute?: boolean;
  path: string;
  timeout: number;
  backup?: string;
  json?: boolean;
};

const SIGNS: Readonly<Record<Finding['verdict'], string>> = { ok: '✓', wrong: '✗', skipped: '-' };
/** Whoever asked in a wrong way must not take that for an answer. */
const WRONG_USAGE = 2;
/** How long events, caches and refunds may take, milliseconds. */
const FOLLOW_WITHIN_MS = 30_000;

const command = new Command('rehearsal')
  .description(
    'Buy from yourself: preflight, then a checkout, the webhook, the key, calls, an upgrade, the portal, a licence, a cancellation and a refund. Exit code 0: all went well; 1: something did not.',
  )
  .addOption(
    new Option('--mode <mode>', 'which money it is done with')
      .choices(['test', 'live'])
      .makeOptionMandatory(),
  )
  .option('--execute', 'do it; without, it says what it would do')
  .option(
    '--path <path>',
    'where it calls your API through the gateway: a path that needs a key',
    apiPath,
    '/',
  )
  .option('--timeout <duration>', 'how long the person who pays may take', duration, 15 * 60_000)
  .option('--backup <file>', 'the backup for preflight to try, when the last one is kept elsewhere')
  .option('--json', 'print JSON')
  .exitOverride((error) => {
    if (error.exitCode === 0) process.exit(0);
    throw Object.assign(error, { exitCode: WRONG_USAGE });
  })
  .configureOutput({ writeErr: () => {} })
  .action(rehearsal);
await run(command);

async function rehearsal(options: Options): Promise<void> {
  const say = options.json ? () => {} : (line: string) => console.log(line);
  try {
    const config = preflightConfig(process.env, options.mode);
    if (options.mode === 'live' && !config.allowLiveRehearsal) {
      throw new CommanderError(
        WRONG_USAGE,
        'rehearsal.live',
        'This would take real money through your live Stripe account. Set ALLOW_LIVE_REHEARSAL=true when that is what you want.',
      );
    }
    await withPreflightContext(config, options, async (context) => {
      say(`Preflight in ${options.mode} mode\n`);
      const preflight = await runPreflight(context, options.json ? {} : { onResult: showCheck });
      say(`\n${preflightSummary(preflight)}`);
      if (outcomeOf(preflight) === 'go') await afterPreflight(context, options, preflight, say);
      else stopped(options, preflight);
    });
  } catch (error) {
    if (!(error instanceof ConfigError || error instanceof KeystoreError)) throw error;
    const preflight = withoutConfiguration(error);
    if (!options.json) preflight.forEach(showCheck);
    stopped(options, preflight);
  }
}

function stopped({ mode, execute = false, json }: Options, preflight: Check[]): void {
  process.exitCode = 1;
  if (json) print({ mode, executed: false, outcome: 'stop', preflight, steps: [] });
  else if (execute) console.log('Nothing was bought: put right what is in the way first.');
}

async function afterPreflight(
  context: PreflightContext,
  options: Options,
  preflight: Check[],
  say: (line: string) => void,
): Promise<void> {
  const { config, stripe } = context;
  const { mode, path } = options;
  const goods = await chooseGoods(stripe, config.plans, mode);
  if (!goods) fail('No plan on sale has a fixed price: there is nothing to buy.');
  if (!options.execute) {
    const steps = rehearsalPlan({ config, goods, path });
    if (options.json) print({ mode, executed: false, outcome: 'go', preflight, steps });
    say('\nWith --execute it would then:\n');
    for (const { title, plan } of steps) say(`- ${title}\n    ${plan}`);
    return;
  }
  say(`\nRehearsal in ${mode} mode\n`);
  const steps = await executed({ ...context, goods, path }, options);
  const outcome = steps.some(({ verdict }) => verdict === 'wrong') ? 'wrong' : 'ok';
  if (outcome === 'wrong') process.exitCode = 1;
  if (options.json) print({ mode, executed: true, outcome, preflight, steps });
  say(outcome === 'ok' ? '\nAll went well.' : '\nNot all went well.');
}

/** A first Ctrl-C ends it, and gives back what was bought; during that, further ones are not heard. */
async function executed(
  about: Pick<Rehearsal, 'mode' | 'config' | 'stripe' | 'keystore' | 'goods' | 'path'>,
  { timeout, json }: Options,
): Promise<Result[]> {
  const interrupt = new AbortController();
  const onSignal = () => interrupt.abort();
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    return await rehearse(
      {
        ...about,
        payWithinMs: timeout,
        followWithinMs: FOLLOW_WITHIN_MS,
        signal: interrupt.signal,
        // Beside the JSON, which is read by a program.
        onCheckout: (url) =>
          process.stderr.write(
            `Waiting ${timeout / 60_000} minutes at most for a person to pay:\n    ${url}\n`,
          ),
      },
      json ? () => {} : showStep,
    );
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

function showStep({ verdict, title, detail, remedy }: Result): void {
  console.log(`${SIGNS[verdict]} ${title}`);
  console.log(`    ${detail}`);
  if (remedy !== undefined) console.log(`    → ${remedy}`);
}

function apiPath(text: string): string {
  if (!text.startsWith('/')) throw new InvalidArgumentError('Give a path that begins with /.');
  return text;
}
