import express, { type Request, type Response, type Router } from 'express';
import { z } from 'zod';
import { isAddressOrRange } from '../../shared/address-ranges.ts';
import { onlyBy } from '../../shared/methods.ts';
import { ProblemError } from '../../shared/problems.ts';
import { typedWindowsSchema } from '../../shared/windows.ts';
import type { Billing } from '../context.ts';
import { timeText } from '../pages.ts';
import { showKeyPage } from './key-page.ts';
import { byOperator, readForm, sendConsolePage } from './page.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

const text = (most: number) => z.string().trim().max(most, `is at most ${most} characters`);
const wholeNumber = (most: number) =>
  z
    .string()
    .regex(/^\d{1,5}$/, 'is a whole number')
    .transform(Number)
    .pipe(z.int().max(most, `is at most ${most}`));
const name = text(200).transform((value) => value || null);
/** As `<input type="datetime-local">` sends it, which is taken for UTC; empty: never. */
const moment = z.union([
  z.literal('').transform(() => null),
  z
    .string()
    .regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d$/, 'is a date and a time, such as 2027-01-31T12:00')
    .transform((value) => Date.parse(`${value}Z`))
    .pipe(z.number('is no moment there is')),
]);
const addresses = text(4000)
  .transform((value) => [...new Set(value.split(/[\s,]+/).filter((each) => each !== ''))])
  .pipe(
    z
      .array(
        z.string().refine(isAddressOrRange, 'has something in it that is neither an address nor a range'),
      )
      .max(100, 'are at most 100'),
  )
  .transform((list) => (list.length === 0 ? null : list));

/** Empty: none. */
const quota = z
  .string()
  .regex(/^\d{0,15}$/, 'is a whole number')
  .transform((value) => (value === '' ? null : Number(value)))
  .pipe(z.int().min(1, 'is at least 1').nullable());

const FORMS = {
  create: z.strictObject({ plan: z.string(), name, days: z.literal('').or(wholeNumber(36_500)) }),
  revoke: z.strictObject({ confirm: z.string(), leaked: z.literal('yes').optional() }),
  rotate: z.strictObject({ overlap_hours: wholeNumber(720) }),
  name: z.strictObject({ name }),
  expiry: z.strictObject({ expires: moment }),
  addresses: z.strictObject({ addresses }),
  suspend: z.strictObject({ note: name }),
  resume: z.strictObject({}),
  limits: z.strictObject({ limits: typedWindowsSchema, quota }),
  release: z.strictObject({ device: z.string() }),
};

/**
 * What an operator does to keys, each by a form: `POST /console/keys` makes one, `POST /console/keys/:id/<action>` changes
 * one. All of it is in the audit log, with who and from where.
 */
export function keyActionRoutes(billing: Billing): Router {
  const router = express.Router();
  const { keystore, plans, config, mode, log } = billing;

  router.get('/new-key', (_request, response) => showForm(response));
  router.post('/new-key', async (request, response) => {
    try {
      const { plan, name, days } = readForm(FORMS.create, request);
      if (!plans.plan(plan)) throw new ProblemError('unknown_plan', `There is no plan "${plan}".`);
      const key = await keystore.createKey({
        mode,
        prefix: config.keyPrefix,
        planId: plan,
        name,
        expiresAt: days === '' ? null : Date.now() + days * DAY_MS,
        ...byOperator(request, response),
      });
      log.info({ key: key.id }, 'Key made in the console');
      sendConsolePage(response, 'new-key-shown', { key, replaces: null });
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      response.status(error.toProblem().status);
      showForm(response, error);
    }
  });
  router.all('/new-key', onlyBy('GET', 'POST'));

  action('revoke', async (request, response, id) => {
    const { confirm, leaked } = readForm(FORMS.revoke, request);
    if (confirm.trim() !== id)
      throw new ProblemError('invalid_request', 'What was typed in is not the id of this key.');
    const reason = leaked ? 'leaked' : 'operator';
    const outcome = await keystore.revokeKey({ id, reason, ...byOperator(request, response) });
    return outcome === 'revoked' ? 'done' : outcome;
  });
  action('rotate', async (request, response, id) => {
    const { overlap_hours } = readForm(FORMS.rotate, request);
    const overlapMs = overlap_hours * HOUR_MS;
    const rotated = await keystore.rotateKey({ id, overlapMs, ...byOperator(request, response) });
    if (typeof rotated === 'string') return rotated;
    log.info({ old: id, key: rotated.id, until: rotated.oldKeyEndsAt }, 'Key rotated in the console');
    const { oldKeyEndsAt, ...key } = rotated;
    const until = oldKeyEndsAt === null ? null : timeText(oldKeyEndsAt);
    sendConsolePage(response, 'new-key-shown', { key, replaces: { id, until } });
    return 'shown';
  });
  action('suspend', async (request, response, id) =>
    keystore.suspendKey({ id, ...readForm(FORMS.suspend, request), ...byOperator(request, response) }),
  );
  action('resume', async (request, response, id) => {
    readForm(FORMS.resume, request);
    return keystore.resumeKey({ id, ...byOperator(request, response) });
  });
  action('limits', async (request, response, id) => {
    const override = readForm(FORMS.limits, request);
    return keystore.overrideLimits({ id, override, ...byOperator(request, response) });
  });
  action('name', async (request, response, id) =>
    keystore.nameKey({ id, ...readForm(FORMS.name, request), ...byOperator(request, response) }),
  );
  action('expiry', async (request, response, id) => {
    const { expires } = readForm(FORMS.expiry, request);
    return keystore.expireKeyAt({ id, expiresAt: expires, ...byOperator(request, response) });
  });
  action('addresses', async (request, response, id) =>
    keystore.allowAddresses({ id, ...readForm(FORMS.addresses, request), ...byOperator(request, response) }),
  );
  action('release', async (request, response, id) => {
    const { device } = readForm(FORMS.release, request);
    const key = await keystore.findKey(id);
    if (!key) return 'not_found';
    const by = byOperator(request, response);
    return keystore.releaseDevice({ rootId: key.rootId, keyId: id, deviceId: device, ...by });
  });
  return router;

  function showForm(response: Response, problem?: ProblemError): void {
    const data = { plans: plans.plans.map(({ id }) => id), problem: problem?.toProblem() };
    sendConsolePage(response, 'new-key', data);
  }

  /** @param act does it, and says what it came to; `shown`: it has answered */
  function action(
    verb: Exclude<keyof typeof FORMS, 'create'>,
    act: (request: Request, response: Response, id: string) => Promise<string>,
  ): void {
    router.post(`/keys/:id/${verb}`, async (request, response) => {
      const { id } = request.params as { id: string };
      try {
        const outcome = await act(request, response, id);
        if (outcome === 'shown') return;
        const refused = REFUSALS[outcome];
        if (refused) throw refused();
        response.redirect(303, `/console/keys/${id}`);
      } catch (error) {
        if (!(error instanceof ProblemError)) throw error;
        await showKeyPage(billing, response, id, error);
      }
    });
    router.all(`/keys/:id/${verb}`, onlyBy('POST'));
  }
}

/** Why something was not done. */
const REFUSALS: Record<string, (() => ProblemError) | undefined> = {
  not_found: () => new ProblemError('not_found', 'There is no key with this id.'),
  already_revoked: () => new ProblemError('invalid_request', 'This key was revoked before.'),
  already_suspended: () => new ProblemError('invalid_request', 'This key was suspended before.'),
  not_suspended: () => new ProblemError('invalid_request', 'You did not suspend this key.'),
  revoked: () =>
    new ProblemError('revoked_key', 'This key was revoked, and nothing brings it back.', {
      remedy: 'Make a new one.',
    }),
  replaced: () => new ProblemError('already_replaced', 'This key was replaced before: see to the newer one.'),
  not_active: () =>
    new ProblemError('device_not_active', 'This device held no place.', { remedy: undefined }),
  expired: () =>
    new ProblemError('expired_key', "This key's time has ended.", {
      remedy: 'Set another expiry, or make a new one.',
    }),
};
