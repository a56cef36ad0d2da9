import { type Check, ok, repairCommand, stop, warning } from './check.ts';

/**
 * What is wrong enough that nothing starts has been found before any check runs (`shared/config.ts`), but for the signing secret;
 * beside that this is about what works and could be better.
 */
export const configuration: Check = {
  id: 'configuration',
  title: 'Configuration is complete and of one mode',
  offline: true,
  run(context) {
    const { config, mode } = context;
    if (!config.stripe?.webhookSecret) {
      return stop(
        'STRIPE_WEBHOOK_SECRET is unset: every webhook is refused.',
        `Set it to the signing secret of the endpoint; without an endpoint, ${repairCommand(context)} registers one.`,
      );
    }
    const faults: string[] = [];
    const remedies: string[] = [];
    if (mode === 'live' && config.stripe?.secretKey.startsWith('sk_')) {
      faults.push('STRIPE_SECRET_KEY may do everything with your account.');
      remedies.push('Use a restricted key (rk_live_...) with the permissions that the README lists.');
    }
    if (config.publicBillingUrl.startsWith('https:') && config.trustedProxyList.length === 0) {
      faults.push('TRUSTED_PROXIES is empty: behind a proxy, all buyers share one address and its limits.');
      remedies.push('Set TRUSTED_PROXIES to the address of the proxy that speaks HTTPS.');
    }
    if (faults.length > 0) return warning(faults.join(' '), remedies.join(' '));
    return ok(`Everything that is needed is set, all of it for ${mode} mode.`);
  },
};
