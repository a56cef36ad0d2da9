import { createInterface } from 'node:readline/promises';
import { timeText } from '../time-text.ts';
import type { Tollgate } from '../tollgate.ts';
import { CHOICE, type Command, type Context, chosen, value } from './command.ts';
import { EXIT, UsageError } from './exit-codes.ts';
import { printable } from './terminal.ts';

export const trial: Command = {
  usage: 'trial --plan <plan> [--email <address>] | trial --code <code>',
  summary: 'Try a plan without paying, where the seller offers that.',
  help: [
    ['--plan <plan>', 'the plan to try'],
    ['--email <address>', 'where the seller sends a code, if it wants to know the address'],
    ['--code <code>', 'go on with the code from the e-mail'],
  ],
  options: { ...CHOICE, plan: { type: 'string' }, email: { type: 'string' }, code: { type: 'string' } },
  words: 0,
  async run(given, context) {
    const tollgate = await context.current.tollgateAt(chosen(given));
    const { key } = await tollgate.stored();
    if (key !== null) throw new UsageError('There is a licence here already.', 'Look at it: tollgate status');
    const code = value(given, 'code');
    if (code !== undefined) return begun(tollgate, (await tollgate.confirmTrial(code)).endsAt, context);
    const plan = value(given, 'plan');
    const email = value(given, 'email');
    if (!plan) throw new UsageError('Which plan?', 'Give --plan, such as --plan pro.');
    const answer = await tollgate.trial({ plan, ...(email === undefined ? {} : { email }) });
    await context.current.remember(tollgate);
    if (answer.status === 'begun') return begun(tollgate, answer.endsAt, context);
    context.terminal.line(printable(answer.detail));
    if (!context.terminal.interactive || !process.stdin.isTTY) {
      context.terminal.line('Then: tollgate trial --code <code>');
      return EXIT.fine;
    }
    return begun(tollgate, (await tollgate.confirmTrial(await askCode(context))).endsAt, context);
  },
};

async function begun(
  tollgate: Tollgate,
  endsAt: Date | null,
  { terminal, current }: Context,
): Promise<number> {
  await current.remember(tollgate);
  const { detail } = await tollgate.entitlements();
  terminal.done(
    endsAt === null
      ? 'The trial has begun.'
      : `The trial has begun, and ends at ${timeText(endsAt.getTime())}.`,
  );
  terminal.line(`  ${printable(detail)}`);
  return EXIT.fine;
}

async function askCode({ interrupted }: Context): Promise<string> {
  const input = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await input.question('Code from the e-mail: ', { signal: interrupted })).trim();
  } finally {
    input.close();
  }
}
