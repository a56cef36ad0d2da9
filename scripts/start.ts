import { join } from 'node:path';
import { namesOf } from '../gateway/routes/routes-file.ts';
import type { Config } from '../shared/config.ts';
import { keystoreName } from '../shared/keystore-url.ts';
import { createLogger, logFile } from '../shared/log.ts';
import { runService } from '../shared/service.ts';
import { startTollgate, type Tollgate } from './compose.ts';

await runService(async () => {
  const tollgate = await startTollgate(process.env, (config) =>
    createLogger({
      level: config.logLevel,
      destination: config.production ? undefined : logFile(logPath(config)),
    }),
  );
  const { stopDelayMs, drainMs } = tollgate.config;
  return {
    message: banner(tollgate),
    drainMs: stopDelayMs + drainMs,
    refresh() {
      tollgate.gateway.reopenLogs();
      tollgate.gateway.reloadRoutes();
    },
    close: () => tollgate.close(),
  };
});

function logPath(config: Config): string {
  return join(config.dataDir, 'tollgate.log');
}

function banner({ config, billing, gateway, sandbox, upstreamUrl, routes }: Tollgate): string {
  const rows: [string, string][] = [
    ['Pricing page', `${config.publicBillingUrl}/`],
    ['Gateway', config.publicGatewayUrl],
    ['Metrics', `${gateway.internalUrl}/metrics, ${billing.internalUrl}/metrics`],
    [
      'Stripe',
      sandbox
        ? `built-in sandbox at ${sandbox.url}, no real money (STRIPE_SECRET_KEY is unset)`
        : `your account, in ${config.stripe?.mode} mode`,
    ],
    routes === null
      ? ['Upstream', config.upstreamUrl ?? `built-in demo API at ${upstreamUrl} (UPSTREAM_URL is unset)`]
      : ['Routes', `${namesOf(routes)} (${config.routesFile})`],
    ['Keystore', keystoreName(config.keystoreUrl)],
    ...(config.serverSecretFile ? [['Server secret', config.serverSecretFile] as [string, string]] : []),
    ['Logs', config.production ? 'standard output' : logPath(config)],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return [
    '',
    'Tollgate is running.',
    '',
    ...rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`),
    '',
    ...nextSteps({ config, billing, sandbox }),
    '',
    'Ctrl-C stops everything.',
    '',
  ].join('\n');
}

function nextSteps({ config, billing, sandbox }: Pick<Tollgate, 'config' | 'billing' | 'sandbox'>): string[] {
  if (sandbox) {
    return [
      'Next: open the pricing page, buy a plan with the test card it offers, reveal your key,',
      `and paste the curl line that comes with it. Without a browser: npm run demo`,
    ];
  }
  const mode = config.stripe?.mode ?? 'test';
  const unpriced = config.plans.plans.filter(
    (plan) => !plan.hidden && !config.plans.priceForPlan(plan.id, mode),
  );
  return [
    ...(config.stripe?.webhookSecret
      ? []
      : [
          `Warning: STRIPE_WEBHOOK_SECRET is unset, so webhooks are refused and a purchase is only seen on the success page.`,
          `Next: stripe listen --forward-to ${billing.url}/billing/webhook   and set the secret it prints.`,
        ]),
    ...(unpriced.length > 0
      ? [
          `Next: npm run payment-link -- --plan ${unpriced[0]?.id}   (no price yet: ${unpriced.map((plan) => plan.id).join(', ')})`,
        ]
      : ['Next: open the pricing page and buy a plan.']),
  ];
}
