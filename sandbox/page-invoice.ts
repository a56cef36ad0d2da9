import { html } from './html.ts';
import { payInvoice } from './invoices.ts';
import { messagePage } from './page-home.ts';
import { date, layout, methodChoice, money } from './page-layout.ts';
import type { PageAnswer, PageRequest } from './pages.ts';
import { attach, createMethod } from './payment-methods.ts';
import { findTestMethod, testMethods } from './test-methods.ts';

/** An invoice's hosted page: what it is for, and a way to pay it while it is open. */
export function invoicePage({ world, name, url, form }: PageRequest): PageAnswer {
  const invoice = world.store.invoices.find(name);
  if (!invoice?.hosted_invoice_url?.endsWith(url.pathname)) {
    return { status: 404, page: messagePage('Invoice not found', 'There is no such invoice.') };
  }
  let problem = '';
  if (form && invoice.status === 'open') {
    const kind = findTestMethod(form.get('card') ?? '');
    const customer = world.store.customers.find(invoice.customer);
    const method = kind && createMethod(world, kind, invoice.currency, invoice.customer_email);
    if (method && customer && !kind.declines) attach(world, method, customer);
    if (!method) problem = 'Choose how to pay.';
    else if (payInvoice(world, invoice, method, true) === 'failed')
      problem = 'Your card was declined. Try another card.';
  }
  const open = invoice.status === 'open';
  return {
    status: problem ? 402 : 200,
    page: layout(
      `Invoice ${invoice.number}`,
      html`<main class="narrow"><section class="card">
<p class="eyebrow">Invoice ${invoice.number}</p>
<p class="total"><span id="total">${money(invoice.amount_due, invoice.currency)}</span></p>
<p><span class="status ${invoice.status}" id="invoice-status">${invoice.status}</span> ${date(invoice.created)}</p>
<ul class="lines">${invoice.lines.data.map(
        (line) =>
          html`<li><span class="line-name">${line.description}</span><span class="line-amount">${money(line.amount, line.currency)}</span></li>`,
      )}</ul>
${problem ? html`<p class="problem" id="payment-error" role="alert">${problem}</p>` : ''}
${open ? html`<form method="post">${methodChoice(testMethods, 'success')}<button class="button" id="pay" type="submit">Pay ${money(invoice.amount_due, invoice.currency)}</button></form>` : ''}
</section></main>`,
    ),
  };
}
