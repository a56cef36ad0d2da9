import type { Request, Response } from 'express';
import { planFor } from '../shared/plans.ts';
import type { Billing } from './context.ts';
import { planText, sendPage, timeText, wantsPage } from './pages.ts';

/** A key that is shown this once. */
export type ShownKey = {
  plaintext: string;
  keyId: string;
  lastFour: string;
  /** The key it takes the place of, and until when that one still works; `null`: no more. */
  replaces?: { keyId: string; worksUntil: number | null };
};

/**
 * Answers with a key, as a page or JSON. The only answer that carries one: it is written nowhere, so nothing here may
 * fail for want of something less important.
 *
 * @param address what the page's address becomes, so that reloading it sends no form again
 */
export async function showKey(
  billing: Billing,
  request: Request,
  response: Response,
  key: ShownKey,
  address: string,
): Promise<void> {
  const { config, keystore, log, plans, mode } = billing;
  const facts = await keystore.findKeyFacts(key.keyId).catch((error) => {
    log.warn({ err: error, key: key.keyId }, 'A key is shown without its plan: the keystore cannot be read');
    return undefined;
  });
  const sold = facts && plans.plan(facts.planId);
  const plan = sold && planFor(sold, facts.quantity);
  const curl = `curl -H "X-API-Key: ${key.plaintext}" ${config.publicGatewayUrl}/whoami`;
  const { replaces } = key;
  if (wantsPage(request)) {
    sendPage(response, 'key', {
      key: key.plaintext,
      keyId: key.keyId,
      plan: plan && planText(plan),
      curl,
      address,
      old: replaces && {
        keyId: replaces.keyId,
        until: replaces.worksUntil === null ? null : timeText(replaces.worksUntil),
      },
    });
    return;
  }
  response.json({
    key: key.plaintext,
    key_id: key.keyId,
    last_four: key.lastFour,
    mode,
    plan: facts?.planId ?? null,
    limits:
      plan?.limits.map(({ name, requests, seconds }) => ({ name, requests, window_seconds: seconds })) ?? [],
    quota: plan?.quota ?? null,
    gateway_url: config.publicGatewayUrl,
    curl,
    ...(replaces && {
      replaces: {
        key_id: replaces.keyId,
        works_until: replaces.worksUntil === null ? null : new Date(replaces.worksUntil).toISOString(),
      },
    }),
  });
}
