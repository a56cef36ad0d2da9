import { type Check, ok, stopIfLive } from './check.ts';

export const policies: Check = {
  id: 'policies',
  title: 'Buyers find support, terms, refunds and privacy',
  offline: true,
  run(context) {
    const { supportEmail, policies } = context.config;
    const wanted: readonly [string, string | null][] = [
      ['SUPPORT_EMAIL', supportEmail],
      ['TERMS_URL', policies.terms],
      ['REFUND_POLICY_URL', policies.refunds],
      ['PRIVACY_URL', policies.privacy],
    ];
    const unset = wanted.flatMap(([name, value]) => (value === null ? [name] : []));
    if (unset.length === 0) return ok("All are set, and at the foot of the buyer's pages.");
    return stopIfLive(
      context,
      `Unset: ${unset.join(', ')}.`,
      'Set them: they are shown at the foot of the pages that buyers see.',
    );
  },
};
