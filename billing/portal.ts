import { setTimeout as pause } from 'node:timers/promises';
import express, { type Router } from 'express';
import { AddressLimit } from '../shared/address-limit.ts';
import { onlyBy } from '../shared/methods.ts';
import { presentedKey } from '../shared/presented-key.ts';
import { ProblemError } from '../shared/problems.ts';
import { allowFormsToStripe } from './forms-to-stripe.ts';
import { MANAGE_PATH, type ManageDesk } from './manage.ts';
import { sendPage, wantsPage } from './pages.ts';
import { settleSubscription } from './settle-subscription.ts';
import { StripePortal } from './stripe-portal.ts';

/** Visits an address may make a minute: each is a call to Stripe. */
const VISITS_A_MINUTE = 60;
/** How long somebody who comes back waits for a look at Stripe, milliseconds; the page is shown all the same. */
const LOOK_MS = 4000;

const RETURN_PATH = '/billing/portal/return';

/**
 * `POST /billing/portal`: with the key in a header answers `{url}` of Stripe's customer portal; the manage page's button
 * is sent on there. `GET /billing/portal/return`: the way back, which looks at what was changed there.
 */
export function portalRoutes(desk: ManageDesk): Router {
  const router = express.Router();
  const { billing } = desk;
  const { config, log, mode, plans } = billing;
  const limit = new AddressLimit(VISITS_A_MINUTE, 60);
  const manageUrl = `${config.publicBillingUrl}${MANAGE_PATH}`;
  const portal = new StripePortal(billing.stripe, {
    plans,
    mode,
    productName: config.productName,
    manageUrl,
  });

  router.post('/billing/portal', allowFormsToStripe(config), async (request, response) => {
    const facts = await desk.buyer(request, response);
    if (!facts) return;
    const byKey = presentedKey(request) !== undefined;
    try {
      await limit.spend(request);
      const customer = await desk.stripeCustomer(facts);
      const url = customer && (await portal.open(customer, `${config.publicBillingUrl}${RETURN_PATH}`));
      if (!url) throw new ProblemError('no_portal', 'There is no customer at Stripe behind this key.');
      log.info({ key: facts.id }, 'Stripe portal opened');
      if (byKey) response.json({ url });
      else response.redirect(303, url);
    } catch (cause) {
      const error = tellNothingChanged(cause);
      if (byKey || !(error instanceof ProblemError) || !wantsPage(request)) throw error;
      log.warn({ key: facts.id, err: error }, 'The Stripe portal could not be opened');
      await desk.show(response, facts, error);
    }
  });
  router.all('/billing/portal', onlyBy('POST'));

  router.get(RETURN_PATH, async (request, response) => {
    const facts = await desk.signedIn(request).catch((error) => {
      if (error instanceof ProblemError) return undefined;
      throw error;
    });
    // Coming from Stripe, a browser keeps our cookie back; going on from a page of ours, it sends it.
    if (!facts && request.query.again === undefined) {
      response.set('Refresh', `0; url=${RETURN_PATH}?again=1`);
      sendPage(response, 'returning', { next: `${RETURN_PATH}?again=1` });
      return;
    }
    if (facts?.subscription) {
      await limit.spend(request);
      // Its events are on their way too, but the buyer is here first.
      const looked = settleSubscription(billing, facts.subscription.id, 'manage_page').catch((error) =>
        log.warn({ key: facts.id, err: error }, 'A subscription could not be looked at on the way back'),
      );
      await Promise.race([looked, pause(LOOK_MS, undefined, { ref: false })]);
    }
    response.redirect(303, MANAGE_PATH);
  });
  router.all(RETURN_PATH, onlyBy('GET'));
  return router;
}

/** Says of Stripe's absence what it means here. */
function tellNothingChanged(error: unknown): unknown {
  if (!(error instanceof ProblemError) || error.code !== 'stripe_unavailable') return error;
  return new ProblemError(
    'stripe_unavailable',
    'The portal cannot be opened right now.',
    { remedy: 'Nothing has changed, and your key goes on as before. Try again in a moment.' },
    { cause: error },
  );
}
