import { type Html, html } from './html.ts';

/** The frame of every page, with the mark that says no money moves here. */
export function layout(title: string, body: Html): Html {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>${title} · Sandbox</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/sandbox.css">
</head>
<body>
<p class="banner" id="sandbox-mark" role="note"><strong>Sandbox</strong> <span>No real money. Nothing you type here leaves this machine.</span></p>
${body}
</body>
</html>
`;
}

const zeroDecimal = new Set('bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf'.split(' '));

/** An amount in the currency's smallest unit, for people: `$20.00`. */
export function money(amount: number, currency: string): string {
  const value = zeroDecimal.has(currency) ? amount : amount / 100;
  try {
    return new Intl.NumberFormat('en-US', { style: 'currency', currency }).format(value);
  } catch {
    return `${value} ${currency.toUpperCase()}`;
  }
}

/** `per month`, `every 3 months`. */
export function every(recurring: { interval: string; interval_count: number } | null): string {
  if (!recurring) return 'once';
  return recurring.interval_count === 1
    ? `per ${recurring.interval}`
    : `every ${recurring.interval_count} ${recurring.interval}s`;
}

/** `3 March 2027`, for seconds since the epoch. */
export function date(seconds: number): string {
  return new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeZone: 'UTC' }).format(seconds * 1000);
}

/** The choice of test cards, as radio buttons named `card`. */
export function methodChoice(
  methods: { name: string; number: string | null; title: string; hint: string }[],
  chosen: string,
): Html {
  return html`<fieldset class="methods">
<legend>Test payment method</legend>
${methods.map(
  ({ name, number, title, hint }) => html`<label class="method" for="card-${name}">
<input type="radio" name="card" id="card-${name}" value="${name}"${name === chosen ? html` checked` : ''}>
<span class="method-text"><span class="method-title">${title}</span><span class="method-hint">${hint}</span></span>
<span class="method-number${number ? '' : ' bank'}">${number ? number.replace(/(.{4})(?=.)/g, '$1 ') : 'Bank'}</span>
</label>
`,
)}</fieldset>`;
}
