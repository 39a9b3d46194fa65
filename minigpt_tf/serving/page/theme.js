// Runs before the page is drawn, so that a theme that was chosen does not flash.
document.documentElement.dataset.theme = localStorage.getItem("minigpt.theme") || "system";
