import { text } from 'node:stream/consumers';
import { Command } from 'commander';
import type { Keystore } from '../keystore/keystore.ts';
import { graceEndsAt } from '../shared/access.ts';
import { urlHost } from '../shared/config.ts';
import { parseKey } from '../shared/keys.ts';
import { problem } from '../shared/problems.ts';
import { outcomeOf, sentenceOf, type Why, type WhyRefusal, why } from '../shared/why.ts';
import { typedWindows } from '../shared/windows.ts';
import { fail, print, run, table, withKeystore } from './command.ts';

const WRONG_USAGE = 2;
const NOTHING_KNOWN = 3;
/** `EX_UNAVAILABLE` of BSD's sysexits.h: the question was not answered, which says nothing of the key. */
const NOT_ANSWERED = 69;

/** What is in a command line is in the shell's history and in the list of processes. */
const KEY_FORM = /_(?:live|test)_[0-9A-Za-z]{20}/;

const program = new Command('why')
  .description(
    'Say what would become of a request now and why, and what its last refusals were. Exit code: 0 admitted, 1 refused, 2 wrong usage, 3 nothing known by that id.',
  )
  .argument(
    '<id>',
    'a key id, or the request id of a request that was refused; - reads a whole key from standard input',
  )
  .option('--json', 'print JSON')
  // What is too much may be a key, and is not repeated.
  .allowExcessArguments()
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : WRONG_USAGE))
  .action(answer);
await run(program);

async function answer(asked: string, options: { json?: boolean }, { args }: Command): Promise<void> {
  if (args.some((each) => KEY_FORM.test(each))) {
    fail(
      'This looks like a whole key, and a command line is no place for one. Give its id (the 12 characters after the mode), or the key on standard input: npm run why -- -',
      WRONG_USAGE,
    );
  }
  if (args.length > 1) fail('Give one id.', WRONG_USAGE);
  try {
    await withKeystore(async (keystore, config) => {
      const id = asked === '-' ? await presented(keystore, options) : asked;
      if (id === null) return;
      const { internalHost, internalPort, plans } = config;
      const gatewayUrl = `http://${urlHost(internalHost)}:${internalPort}`;
      const answered = await why(keystore, { id, gatewayUrl, plans, now: Date.now() });
      if (answered === null) {
        fail(
          `Nothing is known by the id "${id}". It is neither a key here nor the request id of a refusal that is still kept: of each key the last 20 of 7 days, and of a flood only its beginning.`,
          NOTHING_KNOWN,
        );
      }
      if (options.json) print(toJson(answered));
      else show(answered, gatewayUrl);
      process.exitCode = answered.verdict?.admitted ? 0 : 1;
    });
  } catch (error) {
    const { exitCode } = error as { exitCode?: number };
    if (exitCode === undefined || exitCode === 1) Object.assign(error as Error, { exitCode: NOT_ANSWERED });
    throw error;
  }
}

/** The id of the key on standard input; `null` where it is refused for itself, which is then said. */
async function presented(keystore: Keystore, options: { json?: boolean }): Promise<string | null> {
  if (process.stdin.isTTY) process.stderr.write('Paste the key, then press Enter and Ctrl-D.\n');
  const key = (await text(process.stdin)).trim();
  if (key === '') fail('There is nothing on standard input.', WRONG_USAGE);
  const parsed = parseKey(key);
  if (parsed === undefined)
    return refusedForItself('What was sent is not a whole key: its form or checksum is wrong.', options);
  if (!(await keystore.findKey(parsed.id)))
    fail(
      'No key like this was ever issued here: a request with it is answered 401 invalid_key.',
      NOTHING_KNOWN,
    );
  if (await keystore.authenticateKey(key)) return parsed.id;
  return refusedForItself(
    `There is a key with the id ${parsed.id}, and this is not it: its secret, prefix or mode is another one.`,
    options,
  );
}

function refusedForItself(detail: string, { json }: { json?: boolean }): null {
  const { status, code, remedy } = problem('invalid_key', detail);
  if (json) print({ verdict: { admitted: false, code, status, detail, remedy } });
  else console.log(`Refused: a request with this key is answered ${status} ${code}.\n${detail}`);
  process.exitCode = 1;
  return null;
}

function show(answered: Why, gatewayUrl: string): void {
  const { request, verdict, from, refusals } = answered;
  if (request) {
    console.log(
      `The request ${request.requestId} was refused at ${time(request.at)}: ${outcomeOf(request)}.`,
    );
    console.log(`${sentenceOf(request)}\n`);
  }
  if (verdict === null) {
    console.log('It came without a key that is known here, so there is no more to say of it.');
  } else {
    const which = request ? 'The same request now' : 'A request with this key';
    console.log(
      verdict.admitted
        ? `Admitted: ${which.toLowerCase()} would be forwarded.`
        : `Refused: ${which.toLowerCase()} would be answered ${verdict.status} ${verdict.code}.`,
    );
    if (!verdict.admitted || from === 'keystore' || verdict.route !== null) console.log(verdict.detail);
    if (verdict.remedy) console.log(`To the customer: ${verdict.remedy}`);
    if (verdict.retry_after_s !== null) console.log(`It may come again in ${verdict.retry_after_s} s.`);
    if (from === 'keystore') {
      console.log(
        `No gateway answered at ${gatewayUrl}, so this is from the keystore alone: how rate limits stand, what routes ask for and the last seconds of usage are not known.`,
      );
    }
  }
  const facts = factsOf(answered);
  if (facts.length > 0) {
    console.log('');
    table([], facts);
  }
  if (request !== null) {
    console.log('\nThe request:');
    table(
      [],
      [
        ['asked for', `${request.method} ${request.host}${request.path}`],
        ['route', request.route ?? '-'],
        ['address', request.address],
      ],
    );
  }
  if (answered.key === null) return;
  console.log(refusals.length === 0 ? '\nNo refusals are known of it.' : '\nLast refusals:');
  if (refusals.length > 0) {
    table(
      ['WHEN', 'ANSWER', 'WHY', 'ASKED FOR', 'FROM', 'REQUEST ID'],
      refusals.map((each) => [
        time(each.at),
        outcomeOf(each),
        sentenceOf(each),
        `${each.method} ${each.path}`,
        each.address,
        each.requestId,
      ]),
    );
  }
}

function factsOf({ key, access, plan, verdict }: Why): string[][] {
  if (key === null) return [];
  const { subscription } = key;
  const rows: (string[] | null)[] = [
    ['key', `${key.id}, ends in ${key.lastFour}, ${key.mode} mode${key.name ? `, "${key.name}"` : ''}`],
    ['state', access === null ? '-' : access.state + (access.state === 'active' ? '' : ` (${access.code})`)],
    key.revokedAt === null
      ? null
      : ['revoked', `${time(key.revokedAt)}, ${key.revokedReason ?? 'no reason noted'}`],
    key.expiresAt === null
      ? null
      : [key.expiresAt <= Date.now() ? 'expired' : 'expires', time(key.expiresAt)],
    key.replacedBy === null ? null : ['replaced by', key.replacedBy],
    key.email === null && key.customerId === null
      ? null
      : ['customer', [key.email, key.customerId].filter(Boolean).join(', ')],
    [
      'plan',
      `${key.planId}${plan === null ? ', which is not in the plan file' : ''}${key.quantity === 1 ? '' : `, bought ${key.quantity} times`}`,
    ],
    subscription === null ? ['subscription', 'none'] : ['subscription', subscriptionText(subscription)],
    subscription?.pastDueSince == null || plan === null
      ? null
      : ['grace', graceText(subscription.pastDueSince, plan.graceDays)],
    key.suspendedAt === null
      ? null
      : [
          'suspended',
          `by the seller since ${time(key.suspendedAt)}${key.suspendedNote === null ? '' : `: ${key.suspendedNote}`}`,
        ],
    key.disputedSince === null ? null : ['in dispute', `since ${time(key.disputedSince)}`],
    verdict?.limits == null
      ? null
      : [
          'limits',
          verdict.limits
            .map(
              ({ name, limit, remaining, reset_s }) =>
                `${remaining} of ${limit} a ${name} left, renews in ${reset_s} s`,
            )
            .join('; ') || (verdict.admitted ? 'none' : 'not looked at'),
        ],
    verdict?.quota == null ? null : ['quota', quotaText(verdict.quota)],
    key.override === null ? null : ['its own', ownText(key.override)],
    ['addresses', key.allowedAddresses?.join(', ') ?? 'any'],
  ];
  return rows.filter((row) => row !== null);
}

/** Limits that count instead of the plan's. */
function ownText({ limits, quota }: NonNullable<NonNullable<Why['key']>['override']>): string {
  return [
    ...(limits === null ? [] : [`limits ${typedWindows(limits).join(', ')}`]),
    ...(quota === null ? [] : [`quota ${quota}`]),
  ].join('; ');
}

function subscriptionText({
  id,
  status,
  currentPeriodEnd,
  cancelAt,
  trialEnd,
}: NonNullable<NonNullable<Why['key']>['subscription']>): string {
  return [
    `${id}, ${status}`,
    currentPeriodEnd === null ? '' : `period ends ${time(currentPeriodEnd)}`,
    cancelAt === null ? '' : `to be canceled ${time(cancelAt)}`,
    trialEnd === null ? '' : `trial ends ${time(trialEnd)}`,
  ]
    .filter(Boolean)
    .join(', ');
}

function graceText(pastDueSince: number, graceDays: number): string {
  const ends = graceEndsAt(pastDueSince, graceDays);
  return `a payment failed ${time(pastDueSince)}; grace of ${graceDays} days ${ends <= Date.now() ? 'ended' : 'ends'} ${time(ends)}`;
}

function quotaText({
  per,
  limit,
  used,
  remaining,
  resets_at,
}: NonNullable<NonNullable<Why['verdict']>['quota']>): string {
  const renews = resets_at === null ? 'never renews' : `renews ${resets_at}`;
  return `${used} of ${limit} used ${per === 'month' ? 'this month' : 'of the purchase'}, ${remaining} left, ${renews}`;
}

function toJson({ request, key, access, plan, verdict, from, refusals }: Why) {
  return {
    admitted: verdict?.admitted ?? false,
    from,
    verdict,
    request: request && refusalJson(request),
    key: key && {
      key_id: key.id,
      last_four: key.lastFour,
      mode: key.mode,
      name: key.name,
      email: key.email,
      customer_id: key.customerId,
      plan: key.planId,
      plan_known: plan !== null,
      quantity: key.quantity,
      state: access?.state ?? null,
      reason: access && access.state !== 'active' ? access.code : null,
      expires_at: isoTime(key.expiresAt),
      revoked_at: isoTime(key.revokedAt),
      revoked_reason: key.revokedReason,
      replaced_by: key.replacedBy,
      suspended_at: isoTime(key.suspendedAt),
      suspended_note: key.suspendedNote,
      disputed_since: isoTime(key.disputedSince),
      override: key.override && {
        limits: key.override.limits && typedWindows(key.override.limits),
        quota: key.override.quota,
      },
      allowed_addresses: key.allowedAddresses,
      subscription: key.subscription && {
        id: key.subscription.id,
        status: key.subscription.status,
        past_due_since: isoTime(key.subscription.pastDueSince),
        current_period_end: isoTime(key.subscription.currentPeriodEnd),
        cancel_at: isoTime(key.subscription.cancelAt),
        trial_end: isoTime(key.subscription.trialEnd),
      },
    },
    refusals: refusals.map(refusalJson),
  };
}

function refusalJson(refusal: WhyRefusal) {
  return {
    at: time(refusal.at),
    request_id: refusal.requestId,
    code: refusal.code,
    detail: sentenceOf(refusal),
    method: refusal.method,
    host: refusal.host,
    path: refusal.path,
    route: refusal.route,
    address: refusal.address,
  };
}

function isoTime(ms: number | null): string | null {
  return ms === null ? null : time(ms);
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}
