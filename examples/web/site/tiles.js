// Images of the dataset: one of them on a canvas, and the grid of test images with what is read.
// It knows pixels from 0 to 16, labels and predictions, and nothing of how they come about.

const SIDE = 8;
const PIXELS = SIDE * SIDE;

/** Draws 64 values from 0 to 16 as ink on nothing; the style sheet gives paper and colour. */
export function ink(canvas, pixels) {
  canvas.width = canvas.height = SIDE;
  const image = new ImageData(SIDE, SIDE);
  pixels.forEach((value, at) => { image.data[at * 4 + 3] = Math.round((value / 16) * 255); });
  canvas.getContext('2d').putImageData(image, 0, 0);
}

/** The grid inside `list`; mistakes are marked by frame and words, not by colour alone. */
export function grid(list) {
  let tiles = [];
  return {
    /** Shows images that nobody has read yet. */
    images(pixels) {
      tiles = Array.from({ length: pixels.length / PIXELS }, (_, at) => {
        const item = document.createElement('li');
        const canvas = document.createElement('canvas');
        const caption = document.createElement('span');
        canvas.setAttribute('aria-hidden', 'true');
        ink(canvas, pixels.subarray(at * PIXELS, (at + 1) * PIXELS));
        caption.textContent = '–';
        item.append(canvas, caption);
        return { item, caption, shown: '' };
      });
      list.replaceChildren(...tiles.map(({ item }) => item));
    },
    /** Shows what is read in each image, and returns the number of mistakes. */
    read(predictions, labels) {
      let mistakes = 0;
      tiles.forEach((tile, at) => {
        const [read, is] = [predictions[at], labels[at]];
        if (read !== is) mistakes += 1;
        const now = `${read} ${is}`;
        if (tile.shown === now) return;
        tile.shown = now;
        tile.item.classList.toggle('mistake', read !== is);
        if (read === is) tile.caption.replaceChildren(String(read));
        else tile.caption.replaceChildren(struck(read), hidden(' read, is '), ` ${is}`);
      });
      return mistakes;
    },
  };
}

function struck(read) {
  const made = document.createElement('s');
  made.textContent = read;
  return made;
}

function hidden(words) {
  const made = document.createElement('span');
  made.className = 'unseen';
  made.textContent = words;
  return made;
}
