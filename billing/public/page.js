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

// A key shown once must not come back from the browser's memory of the page.
addEventListener('pageshow', (event) => {
  if (event.persisted && document.getElementById('key')) location.reload();
});
