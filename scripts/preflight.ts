import { Command, CommanderError, Option } from 'commander';
import {
  outcomeOf,
  preflightConfig,
  type Result,
  runPreflight,
  withoutConfiguration,
} from '../billing/preflight/preflight.ts';
import { KeystoreError } from '../keystore/keystore.ts';
import { ConfigError } from '../shared/config.ts';
import type { Mode } from '../shared/keys.ts';
import { print, run } from './command.ts';
import { preflightSummary, showCheck, withPreflightContext } from './preflight-parts.ts';

type Options = { mode: Mode; repair?: boolean; backup?: string; json?: boolean };

/** Whoever asked in a wrong way must not take that for an answer. */
const WRONG_USAGE = 2;

const command = new Command('preflight')
  .description(
    'Say whether it is safe to take money: looks at configuration, Stripe, public addresses, keystore, backups, secrets and approvals. Exit code 0: go; 1: stop.',
  )
  .addOption(
    new Option('--mode <mode>', 'which money is to be taken').choices(['test', 'live']).makeOptionMandatory(),
  )
  .option('--repair', 'create or repair the webhook endpoint and the customer portal at Stripe')
  .option('--backup <file>', 'the backup to try, when the last one is kept elsewhere')
  .option('--json', 'print JSON')
  .exitOverride((error) => {
    if (error.exitCode === 0) process.exit(0);
    throw Object.assign(error, { exitCode: WRONG_USAGE });
  })
  .configureOutput({ writeErr: () => {} })
  .action(preflight);
await run(command);

async function preflight(options: Options): Promise<void> {
  const show = options.json ? () => {} : showCheck;
  if (!options.json) console.log(`Preflight in ${options.mode} mode\n`);
  const results = await resultsOf(options, show);
  const outcome = outcomeOf(results);
  if (options.json) print({ mode: options.mode, outcome, checks: results });
  else console.log(`\n${preflightSummary(results)}`);
  process.exitCode = outcome === 'go' ? 0 : 1;
}

async function resultsOf(options: Options, onResult: (result: Result) => void): Promise<Result[]> {
  let results: Result[] = [];
  try {
    const config = preflightConfig(process.env, options.mode);
    if (options.mode === 'live' && !config.allowLivePreflight) {
      throw new CommanderError(
        WRONG_USAGE,
        'preflight.live',
        'This would look at your live Stripe account. Set ALLOW_LIVE_PREFLIGHT=true when that is what you want.',
      );
    }
    await withPreflightContext(config, options, async (context) => {
      results = await runPreflight(context, { ...(options.repair ? { repair: true } : {}), onResult });
    });
  } catch (error) {
    if (!(error instanceof ConfigError || error instanceof KeystoreError)) throw error;
    results = withoutConfiguration(error);
    results.forEach(onResult);
  }
  return results;
}
