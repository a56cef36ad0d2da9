import { parseArgs } from 'node:util';
import { startSandbox } from './server.ts';

const usage = `Usage: npm run sandbox [-- --port 8012 --host 127.0.0.1 --forward-to <webhook address> --forward-thin-to <address>]

An offline Stripe. Environment: SANDBOX_PORT, HOST.`;

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function stop(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

function readArguments() {
  try {
    return parseArgs({
      options: {
        port: { type: 'string' },
        host: { type: 'string' },
        'public-url': { type: 'string' },
        'forward-to': { type: 'string' },
        'forward-thin-to': { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
  } catch (error) {
    return stop(`${(error as Error).message}\n\n${usage}`);
  }
}

function whyNot(error: unknown, host: string, port: number): string {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'EADDRINUSE')
    return `Port ${port} is in use. Stop what uses it, or choose another: npm run sandbox -- --port ${port + 1}`;
  if (code === 'EACCES') return `Not allowed to listen on port ${port}: choose one above 1023.`;
  if (code === 'ENOTFOUND' || code === 'EADDRNOTAVAIL')
    return `Cannot listen on ${host}: it is no address of this machine.`;
  return `The sandbox did not start: ${(error as Error).message}`;
}

const values = readArguments();
if (values.help) {
  say(usage);
  process.exit(0);
}
const host = values.host ?? process.env.HOST ?? '127.0.0.1';
const port = Number(values.port ?? process.env.SANDBOX_PORT ?? 8012);
if (!Number.isInteger(port) || port < 0 || port > 65_535)
  stop('The port must be a whole number from 0 to 65535, such as 8012.');
const forwardTo = values['forward-to'];
const forwardThinTo = values['forward-thin-to'];
for (const [name, address] of Object.entries({ 'forward-to': forwardTo, 'forward-thin-to': forwardThinTo })) {
  if (address !== undefined && !/^https?:\/\//.test(address))
    stop(`--${name} needs an address such as http://127.0.0.1:8011/billing/webhook`);
}

const sandbox = await startSandbox({
  host,
  port,
  ...(values['public-url'] ? { publicUrl: values['public-url'] } : {}),
  settleDelayedAfterMs: 15_000,
}).catch((error: unknown) => stop(whyNot(error, host, port)));

say(`Sandbox: an offline Stripe, no real money. Listening on ${sandbox.url}`);
say('');
say('Any key that begins with sk_test_ works. Point the seller at it with:');
say(`  STRIPE_API_BASE=${sandbox.url}`);
if (forwardTo) {
  const { secret } = sandbox.listen(forwardTo);
  say('');
  say(`Events go to ${forwardTo}, signed with:`);
  say(`STRIPE_WEBHOOK_SECRET=${secret}`);
}
if (forwardThinTo) {
  const { secret } = sandbox.listen(forwardThinTo, { thin: true });
  say('');
  say(`Thin events go to ${forwardThinTo}, signed with:`);
  say(`  ${secret}`);
}
say('');
say('Everything is kept in memory and gone when this stops. Ctrl-C stops it.');

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    void sandbox.close().then(() => process.exit(0));
  });
}
