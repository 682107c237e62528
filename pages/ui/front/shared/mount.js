// A class as a Streamlit component: one object for each element, told of every update, closed when the
// element goes.

export const mounted = (Page) => {
  const pages = new WeakMap();
  return (component) => {
    const { parentElement } = component;
    let page = pages.get(parentElement);
    if (!page?.lab.isConnected) {
      page = new Page(parentElement);
      pages.set(parentElement, page);
    }
    page.update(component);
    // Streamlit may call the clean-up while the element stays on the page.
    return () =>
      setTimeout(() => {
        if (page.lab.isConnected) return;
        page.close();
        pages.delete(parentElement);
      }, 0);
  };
};
