import { resolve } from 'node:path';
import { Command } from 'commander';
import { backupKeystore, type CopyProgress, copyKeystore, restoreKeystore } from '../keystore/keystore.ts';
import { loadConfig } from '../shared/config.ts';
import { isPostgres, keystoreName, keystoreUrlFault } from '../shared/keystore-url.ts';
import { fail, run, withKeystore } from './command.ts';
import { Progress } from './progress.ts';

const program = new Command('keystore').description(
  'Bring the keystore up to date, back it up, and move it.',
);
program
  .command('migrate')
  .description('Bring the schema up to date. Starting any service does the same.')
  .action(migrate);
program
  .command('backup <file>')
  .description('Write a consistent copy to a new SQLite file, also while services run.')
  .action(backup);
program
  .command('restore <file>')
  .description('Put a backup in the place of the keystore. Stop all services first.')
  .action(restore);
program
  .command('copy')
  .description(
    'Copy the keystore to another one, also while services run, and compare every row. Run it again to take over what changed since.',
  )
  .requiredOption('--to <url>', 'sqlite:<path> or postgres://...; or - to read it from KEYSTORE_COPY_TO')
  .action(copy);
await run(program);

async function migrate(): Promise<void> {
  await withKeystore(async (_keystore, config) => {
    console.log(`${keystoreName(config.keystoreUrl)} is up to date.`);
  });
}

async function backup(file: string): Promise<void> {
  const { keystoreUrl } = loadConfig(process.env, 'tool');
  const path = resolve(file);
  await withProgress((show) => backupKeystore(keystoreUrl, path, show));
  console.log(`${keystoreName(keystoreUrl)} was backed up to ${path}.`);
  console.log(
    'It holds buyers’ addresses and hashed keys: keep it as safe as the keystore, and TOLLGATE_SECRET elsewhere.',
  );
}

async function restore(file: string): Promise<void> {
  const { keystoreUrl, serverSecret } = loadConfig(process.env, 'tool');
  const { movedTo, stillRevoked, stillDisabled, usersAsBefore } = await withProgress((show) =>
    restoreKeystore(resolve(file), keystoreUrl, serverSecret, show),
  );
  console.log(`${keystoreName(keystoreUrl)} is now as it was when ${resolve(file)} was made.`);
  if (movedTo !== null) console.log(`The keystore that was there is kept at ${movedTo}.`);
  if (stillRevoked > 0)
    console.log(`Revoked since, and still so: ${stillRevoked} ${stillRevoked === 1 ? 'key' : 'keys'}.`);
  if (stillDisabled.length > 0)
    console.log(`Users of the console disabled since, and still so: ${stillDisabled.join(', ')}.`);
  if (usersAsBefore > 0)
    console.log('Passwords and second factors of the console are those of now, not those of the backup.');
  console.log('Nobody is signed in to the console any more.');
  console.log('Start the services, then run "npm run reconcile": it looks up at Stripe what happened since.');
}

async function copy(options: { to: string }): Promise<void> {
  const { keystoreUrl } = loadConfig(process.env, 'tool');
  const to = options.to === '-' ? (process.env.KEYSTORE_COPY_TO ?? '') : options.to;
  const fault = keystoreUrlFault(to);
  if (fault !== null) fail(`The address to copy to ${fault}.`);
  if (options.to !== '-' && isPostgres(to) && new URL(to).password !== '')
    fail(
      'Whoever can list processes sees a password on a command line: set KEYSTORE_COPY_TO to the address, and say --to -.',
    );
  if (to === keystoreUrl) fail('The address to copy to is that of the keystore itself.');
  const { tables, rows, written } = await withProgress((show) => copyKeystore(keystoreUrl, to, show));
  const keys = tables.find(({ name }) => name === 'keys')?.rows ?? 0;
  console.log(
    `${keystoreName(to)} now equals ${keystoreName(keystoreUrl)}: ${counted(rows, 'row')} compared, ${counted(keys, 'key')} among them; ${counted(written, 'row')} written this time.`,
  );
  console.log(
    written > 0
      ? 'If services were running, stop billing and the gateway, run this again to take over the last changes, and start them with KEYSTORE_URL set to the new address.'
      : 'Nothing has changed since the last copy. Start the services with KEYSTORE_URL set to the new address.',
  );
}

async function withProgress<T>(work: (show: (progress: CopyProgress) => void) => Promise<T>): Promise<T> {
  const progress = new Progress();
  try {
    return await work(({ phase, table, done, total }) => progress.show(`${phase} ${table}`, done, total));
  } finally {
    progress.end();
  }
}

function counted(count: number, what: string): string {
  return `${count.toLocaleString('en')} ${what}${count === 1 ? '' : 's'}`;
}
