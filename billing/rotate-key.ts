import express, { type Router } from 'express';
import { z } from 'zod';
import type { RotationRefusal } from '../keystore/keystore.ts';
import { AddressLimit } from '../shared/address-limit.ts';
import { fieldErrors } from '../shared/field-errors.ts';
import { onlyBy, parsedBody } from '../shared/methods.ts';
import { presentedKey } from '../shared/presented-key.ts';
import { ProblemError } from '../shared/problems.ts';
import { RateLimit } from '../shared/rate-limit.ts';
import { allowFormsToStripe } from './forms-to-stripe.ts';
import { showKey } from './key-page.ts';
import { MANAGE_PATH, type ManageDesk } from './manage.ts';
import { wantsPage } from './pages.ts';

const HOUR_MS = 3_600_000;
/** How often an address may replace keys in a minute. */
const ROTATIONS_A_MINUTE = 30;
/** How often one key and its replacements may be replaced in an hour: each is a mail, and a key more that works for a while. */
const ROTATIONS_AN_HOUR = 6;

const bodySchema = z.strictObject({
  overlap_hours: z
    .union(
      [
        z.number(),
        z
          .string()
          .regex(/^\d{1,4}$/)
          .transform(Number),
      ],
      {
        error: 'must be a whole number of hours, 0 to 720',
      },
    )
    .pipe(
      z
        .int('must be a whole number of hours, 0 to 720')
        .min(0, 'must be a whole number of hours, 0 to 720')
        .max(720, 'must be a whole number of hours, 0 to 720'),
    )
    .default(24),
});

/**
 * `POST /billing/rotate-key {overlap_hours?}`: a new key in place of the one that was presented (in a header, or by
 * signing in on the manage page), shown once. The old one works for the overlap, then is refused; plan, limits, quota and
 * usage are those of both.
 */
export function rotateKeyRoutes(desk: ManageDesk): Router {
  const router = express.Router();
  const { config, keystore, log } = desk.billing;
  const limit = new AddressLimit(ROTATIONS_A_MINUTE, 60);
  const perKey = new RateLimit(ROTATIONS_AN_HOUR, 3600, 'This key was replaced too often.');

  router.post(
    '/billing/rotate-key',
    allowFormsToStripe(config),
    express.json({ limit: '4kb' }),
    express.urlencoded({ extended: false, limit: '4kb' }),
    parsedBody,
    async (request, response) => {
      const facts = await desk.buyer(request, response);
      if (!facts) return;
      const byKey = presentedKey(request) !== undefined;
      try {
        const input = bodySchema.safeParse(request.body ?? {});
        if (!input.success) throw fieldErrors(input.error);
        await limit.spend(request);
        await perKey.spend(facts.rootId);
        const rotated = await keystore.rotateKey({
          id: facts.id,
          overlapMs: input.data.overlap_hours * HOUR_MS,
          actor: byKey ? 'buyer_api' : 'manage_page',
        });
        if (typeof rotated === 'string') throw notRotated(rotated);
        log.info({ old: facts.id, key: rotated.id, until: rotated.oldKeyEndsAt }, 'Key rotated');
        if (!byKey) desk.signIn.start(response, rotated.id);
        const replaces = { keyId: facts.id, worksUntil: rotated.oldKeyEndsAt };
        const { plaintext, id: keyId, lastFour } = rotated;
        await showKey(desk.billing, request, response, { plaintext, keyId, lastFour, replaces }, MANAGE_PATH);
      } catch (error) {
        if (byKey || !(error instanceof ProblemError) || !wantsPage(request)) throw error;
        const now = (await keystore.findKeyFacts(facts.id)) ?? facts;
        await desk.show(response, now, error);
      }
    },
  );
  router.all('/billing/rotate-key', onlyBy('POST'));
  return router;
}

function notRotated(refusal: RotationRefusal): ProblemError {
  switch (refusal) {
    case 'replaced':
      return new ProblemError('already_replaced', 'This key was replaced before: replace the newer one.');
    case 'expired':
      return new ProblemError('expired_key', "This key's time has ended: there is nothing to replace.");
    default:
      return new ProblemError('revoked_key', 'This key was switched off meanwhile.');
  }
}
