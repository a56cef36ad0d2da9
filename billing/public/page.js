// Copy buttons: hidden without JavaScript or clipboard, where the text can be selected by hand.
for (const button of document.querySelectorAll('[data-copy]')) {
  const name = button.dataset.copy;
  const text = document.getElementById(name);
  const copied = document.querySelector(`[data-copied="${name}"]`);
  button.hidden = false;
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      copied.textContent = 'Copied.';
    } catch {
      getSelection().selectAllChildren(text);
      copied.textContent = 'Selected: copy it with your keyboard.';
    }
  });
}

// Reloading the page that shows the key, or coming back to it, opens the success page instead of sending the form again.
const revealed = document.querySelector('[data-address]');
if (revealed) history.replaceState(null, '', revealed.dataset.address);

// A second click while the answer is on its way must not use up what is shown only once.
for (const form of document.forms) {
  form.addEventListener('submit', (event) => {
    if (Date.now() - Number(form.dataset.sent ?? 0) < 5000) event.preventDefault();
    else form.dataset.sent = Date.now();
  });
}

// A key shown once must not come back from the browser's memory of the page.
addEventListener('pageshow', (event) => {
  for (const form of document.forms) delete form.dataset.sent;
  if (event.persisted && document.getElementById('key')) location.reload();
});
