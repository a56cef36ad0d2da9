import { Command } from 'commander';
import { passwordFault } from '../keystore/console-users.ts';
import { actor, fail, print, run, table, withKeystore } from './command.ts';
import { readPassword } from './read-password.ts';

const program = new Command('admin').description('Say who may sign in to the console.');
program
  .command('create <name>')
  .description(
    'Let somebody in. The password is asked for, or read from standard input: never give it as an argument.',
  )
  .action(create);
program
  .command('password <name>')
  .description('Give somebody another password. Whoever is signed in by that name is signed out.')
  .action(changePassword);
program
  .command('remove-second-factor <name>')
  .description('Ask somebody who has lost the phone for no code any more.')
  .action(removeSecondFactor);
program
  .command('list')
  .description('List the users of the console.')
  .option('--json', 'print JSON')
  .action(list);
program
  .command('disable <name>')
  .description('Keep somebody out from now on, also where signed in.')
  .action(disable);
await run(program);

async function create(name: string): Promise<void> {
  if (!/^[a-z0-9][a-z0-9._-]{0,39}$/.test(name))
    fail('A name is up to 40 of a-z, 0-9, ".", "_" and "-", and begins with a letter or digit.');
  const password = await newPassword(`Password for ${name}`);
  await withKeystore(async (keystore, config) => {
    if ((await keystore.createConsoleUser({ name, password, actor })) === 'exists')
      fail(`There is a user "${name}" already, or was one. Choose another name.`);
    console.log(`${name} may sign in at ${config.publicBillingUrl}/console`);
  });
}

async function changePassword(name: string): Promise<void> {
  const password = await newPassword(`New password for ${name}`);
  await withKeystore(async (keystore) => {
    if ((await keystore.changeConsolePassword({ name, password, actor })) === 'not_found')
      fail(`There is no user "${name}", or it was disabled.`);
    console.log(`${name} has another password, and is signed out.`);
  });
}

async function removeSecondFactor(name: string): Promise<void> {
  await withKeystore(async (keystore) => {
    const outcome = await keystore.removeSecondFactor({ name, code: null, actor });
    if (outcome === 'not_found') fail(`There is no user "${name}".`);
    console.log(
      outcome === 'removed'
        ? `${name} signs in by password alone from now on, and can set up a second factor anew on the account page.`
        : `${name} had no second factor.`,
    );
  });
}

async function newPassword(prompt: string): Promise<string> {
  const password = await readPassword(prompt);
  if (password === null) fail('The two passwords differ. Nothing was changed.');
  const fault = passwordFault(password);
  if (fault) fail(`${fault} Nothing was changed.`);
  return password;
}

async function list({ json }: { json?: boolean }): Promise<void> {
  await withKeystore(async (keystore) => {
    const users = (await keystore.listConsoleUsers()).map(
      ({ name, createdAt, disabledAt, secondFactor }) => ({
        name,
        created_at: new Date(createdAt).toISOString(),
        disabled_at: disabledAt === null ? null : new Date(disabledAt).toISOString(),
        second_factor: secondFactor,
      }),
    );
    if (json) print(users);
    else if (users.length === 0) console.log('No users, so the console is off.');
    else {
      table(
        ['NAME', 'CREATED', 'SECOND FACTOR', 'DISABLED'],
        users.map((user) => [
          user.name,
          user.created_at,
          user.second_factor ? 'yes' : 'no',
          user.disabled_at ?? '-',
        ]),
      );
    }
  });
}

async function disable(name: string): Promise<void> {
  await withKeystore(async (keystore) => {
    const outcome = await keystore.disableConsoleUser({ name, actor });
    if (outcome === 'not_found') fail(`There is no user "${name}".`);
    console.log(outcome === 'disabled' ? `${name} is kept out from now on.` : `${name} was disabled before.`);
  });
}
