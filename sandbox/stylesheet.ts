/** The look of every hosted page: one sheet, light and dark, readable from 360 pixels on. */
export const stylesheet = `
:root {
  --ink: #16202e; --soft: #5a6675; --line: #e0e4ea; --page: #f4f6f9; --card: #ffffff;
  --accent: #3a4ad9; --accent-ink: #ffffff; --accent-soft: #eef0ff;
  --bad: #b3261e; --bad-soft: #fdecea; --good: #17663a; --good-soft: #e3f5ea; --warn: #7a4d00; --warn-soft: #fff1d6;
  --mark: #ffcf4a; --mark-ink: #3a2a00; --shadow: 0 1px 2px #16202e14, 0 8px 28px #16202e12;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #eceff4; --soft: #a3adbb; --line: #2e3846; --page: #0f141b; --card: #19212b;
    --accent: #94a0ff; --accent-ink: #0d1230; --accent-soft: #232c4a;
    --bad: #ffb4ab; --bad-soft: #43211f; --good: #8fdfb0; --good-soft: #16382a; --warn: #ffd48a; --warn-soft: #3f3015;
    --mark: #ffcf4a; --mark-ink: #2b2000; --shadow: none;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.banner { margin: 0; padding: .55rem 1rem; text-align: center; font-size: .875rem; color: var(--mark-ink);
  background: repeating-linear-gradient(-45deg, var(--mark) 0 14px, #f7c235 14px 28px); }
.banner strong { text-transform: uppercase; letter-spacing: .08em; margin-right: .4rem; }
h1 { font-size: 1.35rem; line-height: 1.25; margin: 0 0 1rem; letter-spacing: -.01em; }
h2 { font-size: 1rem; margin: 2rem 0 .6rem; color: var(--soft); font-weight: 600; }
a { color: var(--accent); text-underline-offset: .15em; }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, monospace; background: var(--accent-soft); padding: .1em .35em; border-radius: 5px; overflow-wrap: anywhere; }
main { margin: 0 auto; padding: 1.5rem 1rem 4rem; }
.narrow { max-width: 40rem; }
.checkout { max-width: 62rem; display: grid; gap: 1.75rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1.25rem; box-shadow: var(--shadow); }
.card > :first-child { margin-top: 0; }
.card > :last-child { margin-bottom: 0; }
.card > .lines:first-child { border-top: 0; }
.card > .lines:last-child li:last-child { border-bottom: 0; padding-bottom: 0; }
.message { text-align: center; padding: 3rem 1.5rem; margin-top: 8vh; }
.eyebrow { margin: 0; color: var(--soft); font-weight: 600; }
.total { margin: .1rem 0 .75rem; font-size: 2.4rem; line-height: 1.15; font-weight: 700; letter-spacing: -.02em; font-variant-numeric: tabular-nums; }
.total.small { font-size: 1.35rem; margin: .4rem 0; }
.total small { font-size: .95rem; font-weight: 500; color: var(--soft); letter-spacing: 0; }
.note { margin: .5rem 0; color: var(--soft); }
.fine { color: var(--soft); font-size: .9rem; text-align: inherit; overflow-wrap: anywhere; }
.lines { list-style: none; margin: 1rem 0 0; padding: 0; border-top: 1px solid var(--line); }
.lines li { display: flex; gap: 1rem; justify-content: space-between; align-items: baseline; padding: .8rem 0; border-bottom: 1px solid var(--line); }
.line-name { flex: 1; min-width: 0; overflow-wrap: anywhere; font-weight: 500; }
.line-name small { display: block; color: var(--soft); font-weight: 400; }
.line-amount, .due span:last-child { font-variant-numeric: tabular-nums; white-space: nowrap; }
.due { display: flex; justify-content: space-between; font-weight: 700; margin: .9rem 0 0; }
.field { display: block; margin: 0 0 1.1rem; }
label, legend { font-weight: 600; font-size: .9rem; }
input[type=email], select { display: block; width: 100%; margin-top: .35rem; padding: .7rem .8rem; font: inherit; font-weight: 400; color: inherit;
  background: var(--page); border: 1px solid var(--line); border-radius: 9px; }
input[readonly] { color: var(--soft); }
:is(input, select, button, a, summary):focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.methods { border: 0; padding: 0; margin: 0 0 1.25rem; }
.methods legend { margin-bottom: .4rem; padding: 0; }
.method { display: flex; gap: .75rem; align-items: center; padding: .7rem .85rem; border: 1px solid var(--line); margin-top: -1px; cursor: pointer; font-weight: 400; }
.method:first-of-type { border-radius: 10px 10px 0 0; margin-top: 0; }
.method:last-of-type { border-radius: 0 0 10px 10px; }
.method-number.bank { font-family: inherit; }
.method:has(:checked) { background: var(--accent-soft); border-color: var(--accent); position: relative; z-index: 1; }
.method input { accent-color: var(--accent); width: 1.1rem; height: 1.1rem; margin: 0; flex: none; }
.method-text { flex: 1; min-width: 0; }
.method-title { display: block; font-weight: 600; font-size: .95rem; }
.method-hint { display: block; font-size: .85rem; color: var(--soft); }
.method-number { font: .82rem ui-monospace, SFMono-Regular, Menlo, monospace; color: var(--soft); white-space: nowrap; }
.button { display: inline-block; width: 100%; padding: .85rem 1.1rem; border: 1px solid transparent; border-radius: 10px; background: var(--accent); color: var(--accent-ink);
  font: inherit; font-weight: 650; text-align: center; text-decoration: none; cursor: pointer; }
.button:hover { filter: brightness(1.06); }
.button.quiet { background: transparent; color: var(--accent); border-color: var(--accent); width: auto; }
.button.danger { background: transparent; color: var(--bad); border-color: var(--bad); }
.problem { background: var(--bad-soft); color: var(--bad); padding: .75rem .9rem; border-radius: 10px; margin: 0 0 1rem; font-weight: 500; }
.status { display: inline-block; padding: .1rem .55rem; border-radius: 99px; font-size: .8rem; font-weight: 600; background: var(--warn-soft); color: var(--warn); }
.status:is(.active, .paid, .trialing) { background: var(--good-soft); color: var(--good); }
.status:is(.past_due, .unpaid, .uncollectible, .void) { background: var(--bad-soft); color: var(--bad); }
.subscription { margin-bottom: 1rem; }
.subscription p { margin-top: 0; }
.plan { margin: 0; font-size: 1.1rem; }
.row { display: flex; flex-wrap: wrap; gap: .75rem; align-items: end; margin-bottom: 1rem; }
.row .field { margin: 0; }
.grow { flex: 1 1 14rem; min-width: 0; }
summary { cursor: pointer; color: var(--accent); font-weight: 600; }
details[open] summary { margin-bottom: 1rem; }
.counts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: 1rem; margin: 1.25rem 0; }
.counts dt { color: var(--soft); font-size: .85rem; }
.counts dd { margin: 0; font-size: 1.6rem; font-weight: 700; }
@media (min-width: 760px) {
  main { padding-top: 3rem; }
  .checkout { grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); gap: 3.5rem; align-items: start; }
  .card { padding: 1.75rem; }
  .portal .button:not(.quiet) { width: auto; }
}
@media (max-width: 480px) {
  .method { flex-wrap: wrap; row-gap: .1rem; }
  .method-number { flex-basis: 100%; padding-left: 1.85rem; }
  .method-number.bank { display: none; }
  .row .button { width: 100%; }
  .total small { display: block; margin-top: .2rem; }
}
`.trimStart();
