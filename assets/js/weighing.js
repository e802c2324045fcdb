// In any prompt, Ctrl with an arrow up or down: the word at the caret, or what is selected, weighs more or less. It is
// written into the prompt, as (cat:1.1).

// As pipelines/weighing.py has it.
const MARK = /\(([^():]+):\s*(\d+\.?\d*|\.\d+)\s*\)/g;
const MOST = 3;
const STEP = 0.1;

export function weighWords() {
  document.addEventListener("keydown", (event) => {
    const field = event.target;
    const by = { ArrowUp: STEP, ArrowDown: -STEP }[event.key];
    if (!by || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey || !(field instanceof HTMLTextAreaElement)) return;
    event.preventDefault();
    const change = weighed(field.value, field.selectionStart, field.selectionEnd, by);
    if (!change) return;
    field.setSelectionRange(change.from, change.to);
    // Written as a hand would, so that Ctrl+Z takes it back.
    document.execCommand("insertText", false, change.text);
    field.setSelectionRange(change.start, change.stop);
  });
}

// Where the weights of words are written in a prompt: pairs of places.
export function weightsIn(text) {
  const marks = [...text.matchAll(MARK)].filter((one) => one[2] <= MOST);
  return marks.map((one) => [one.index + 1 + one[1].length, one.index + one[0].length]);
}

// What comes in place of text.slice(from, to), and where its words stand then; nothing where no word is meant.
export function weighed(text, start, stop, by) {
  const mark = [...text.matchAll(MARK)].find((one) => one.index <= start && stop <= one.index + one[0].length && one[2] <= MOST);
  const [from, to] = mark ? [mark.index, mark.index + mark[0].length] : wordsAt(text, start, stop);
  const words = mark ? mark[1] : text.slice(from, to);
  if (!words || (!mark && /[():]/.test(words))) return null;
  const weight = Math.round(Math.min(MOST, Math.max(0, Number(mark?.[2] ?? 1) + by)) * 100) / 100;
  const first = from + (weight === 1 ? 0 : 1);
  return { from, to, text: weight === 1 ? words : `(${words}:${weight})`, start: first, stop: first + words.length };
}

function wordsAt(text, start, stop) {
  if (start === stop) {
    const before = text.slice(0, start).match(/[\p{L}\p{N}'’-]*$/u)[0];
    const after = text.slice(stop).match(/^[\p{L}\p{N}'’-]*/u)[0];
    return [start - before.length, stop + after.length];
  }
  const chosen = text.slice(start, stop);
  return [start + chosen.length - chosen.trimStart().length, stop - (chosen.length - chosen.trimEnd().length)];
}
